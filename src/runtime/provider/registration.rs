//! Gives a provider to a session that is about to be opened, and asks a library whether it holds one.

use std::num::NonZeroUsize;

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;

use super::{Provider, ProviderSetup};
use crate::runtime::Runtime;

/// Whether the loaded library was built with `provider`.
#[expect(deprecated, reason = "boards with older libraries still have Arm NN")]
pub(in crate::runtime) fn is_built_in(provider: Provider) -> bool {
    let found = match provider {
        Provider::Cpu => Ok(true),
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::TensorRt => ep::TensorRT::is_available(),
        Provider::NvRtx => ep::NVRTX::is_available(),
        Provider::OpenVino => ep::OpenVINO::is_available(),
        Provider::Qnn => ep::QNN::is_available(),
        Provider::WebGpu => ep::WebGPU::is_available(),
        Provider::Xnnpack => ep::XNNPACK::is_available(),
        Provider::Acl => ep::ACL::is_available(),
        Provider::ArmNn => ep::ArmNN::is_available(),
        Provider::Rknpu => ep::RKNPU::is_available(),
        Provider::Vitis => ep::Vitis::is_available(),
        Provider::Cann => ep::CANN::is_available(),
        Provider::MiGraphX => ep::MIGraphX::is_available(),
        Provider::DirectMl => ep::DirectML::is_available(),
        Provider::CoreMl => ep::CoreML::is_available(),
        Provider::NnApi => ep::NNAPI::is_available(),
    };
    found.unwrap_or(false)
}

/// Gives `setup` to `builder`, as a provider of the library, else as the devices of a plugin.
///
/// # Errors
/// The library has no such provider; the provider does not load or does not take an option.
pub(in crate::runtime) fn append(
    builder: SessionBuilder,
    runtime: &Runtime,
    setup: &ProviderSetup,
) -> ort::Result<SessionBuilder> {
    let provider = setup.provider();
    if provider != Provider::Cpu && is_built_in(provider) {
        return Ok(builder.with_execution_providers([dispatch(setup).error_on_failure()])?);
    }
    let name = provider.runtime_name();
    // Without explicit devices a session follows `ort`'s default policy, which may take any plugin that is registered.
    let devices: Vec<_> = runtime.devices().into_iter().filter(|device| device.ep().is_ok_and(|found| found == name)).collect();
    if devices.is_empty() {
        return Err(ort::Error::new(format!("this ONNX Runtime offers no device for {name}")));
    }
    // `ort` tells the options of several providers apart by what they begin with.
    let mut options: Vec<_> = setup.options().iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())).collect();
    // Where the runtime lists the chip as a processor the plugin does not know which part of it is meant.
    if provider == Provider::Qnn && setup.get("backend_type").or(setup.get("backend_path")).is_none() {
        options.push((format!("{name}.backend_type"), "htp".to_owned()));
    }
    Ok(builder.with_devices(devices, Some(&options))?)
}

#[expect(deprecated, reason = "boards with older libraries still have Arm NN")]
fn dispatch(setup: &ProviderSetup) -> ExecutionProviderDispatch {
    fn with<P>(provider: P, setup: &ProviderSetup) -> ExecutionProviderDispatch
    where
        P: ArbitrarilyConfigurableExecutionProvider + Into<ExecutionProviderDispatch>,
    {
        setup.options().iter().fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value)).into()
    }
    let is_on = |key: &str| setup.get(key) == Some(setup.provider().facts().switch[1]);
    let number = |key: &str| setup.get(key).and_then(|value| value.parse::<i64>().ok());
    let device_id = number("device_id").and_then(|id| i32::try_from(id).ok());
    match setup.provider() {
        Provider::Cpu => ep::CPU::default().with_arena_allocator(true).build(),
        Provider::Cuda => with(ep::CUDA::default(), setup),
        Provider::TensorRt => with(ep::TensorRT::default(), setup),
        Provider::NvRtx => with(ep::NVRTX::default(), setup),
        Provider::OpenVino => with(ep::OpenVINO::default(), setup),
        Provider::Qnn => with(ep::QNN::default(), setup),
        Provider::WebGpu => with(ep::WebGPU::default(), setup),
        Provider::Xnnpack => {
            let threads =
                number("intra_op_num_threads").and_then(|count| usize::try_from(count).ok()).and_then(NonZeroUsize::new);
            let provider = ep::XNNPACK::default();
            threads.map_or(provider.clone(), |threads| provider.with_intra_op_num_threads(threads)).build()
        }
        Provider::Acl => ep::ACL::default().with_fast_math(is_on("enable_fast_math")).build(),
        Provider::ArmNn => ep::ArmNN::default().with_arena_allocator(is_on("use_arena")).build(),
        Provider::Rknpu => ep::RKNPU::default().build(),
        Provider::Vitis => with(ep::Vitis::default(), setup),
        Provider::Cann => with(ep::CANN::default(), setup),
        Provider::MiGraphX => {
            let provider = ep::MIGraphX::default()
                .with_device_id(device_id.unwrap_or(0))
                .with_fp16(is_on("migraphx_fp16_enable"))
                .with_fp8(is_on("migraphx_fp8_enable"))
                .with_int8(is_on("migraphx_int8_enable"))
                .with_exhaustive_tune(is_on("migraphx_exhaustive_tune"));
            let limit = number("migraphx_mem_limit").and_then(|bytes| usize::try_from(bytes).ok());
            limit.map_or(provider.clone(), |bytes| provider.with_mem_limit(bytes)).build()
        }
        Provider::DirectMl => {
            let preference = match setup.get("performance_preference") {
                Some("high_performance") => ep::directml::PerformancePreference::HighPerformance,
                Some("minimum_power") => ep::directml::PerformancePreference::MinimumPower,
                _ => ep::directml::PerformancePreference::Default,
            };
            let provider = ep::DirectML::default().with_performance_preference(preference);
            device_id.map_or(provider.clone(), |id| provider.with_device_id(id)).build()
        }
        Provider::CoreMl => with(ep::CoreML::default(), setup),
        Provider::NnApi => ep::NNAPI::default()
            .with_fp16(is_on("fp16"))
            .with_nchw(is_on("nchw"))
            .with_disable_cpu(is_on("disable_cpu"))
            .with_cpu_only(is_on("cpu_only"))
            .build(),
    }
}
