//! Rows of the table of providers: those of graphics cards.

use super::Provider;
use super::option::Values::{File, Folder, Integer, Library, OneOf, Switch, Text};
use super::table::{
    ARENA, Auto, DEVICE_ID, DeviceMemory, Facts, HALF_FIRST, Kept, LARGEST_BYTES, MAYBE_SLOWER, PLAIN, SLOW_FIRST, option,
};
use crate::runtime::Precision;

pub(super) static CUDA: Facts = Facts {
    name: "cuda",
    runtime_name: "CUDAExecutionProvider",
    hardware: "NVIDIA GPUs",
    source: "the wheel onnxruntime-gpu, or JetPack's own library",
    precisions: HALF_FIRST,
    has_own_memory: true,
    keeps: Some(DeviceMemory { name: "Cuda", by: Provider::Cuda, records_by: "enable_cuda_graph" }),
    gains_from_batches: true,
    leaves_shapes: true,
    tolerance: 5e-3,
    options: &[
        DEVICE_ID,
        option("gpu_mem_limit", Integer(1, LARGEST_BYTES), "bytes that its memory may grow to"),
        ARENA,
        option(
            "cudnn_conv_algo_search",
            OneOf(&["EXHAUSTIVE", "HEURISTIC", "DEFAULT"]),
            "how convolutions are chosen: HEURISTIC begins at once",
        ),
        option("cudnn_conv_use_max_workspace", Switch, "let convolutions use as much memory as they like"),
        option("cudnn_conv1d_pad_to_nc1d", Switch, "treat one-dimensional convolutions as two-dimensional ones"),
        option("enable_cuda_graph", Switch, "record kernels once; shapes must stay the same"),
        option("use_tf32", Switch, "let matrix products round to TF32"),
        option("prefer_nhwc", Switch, "channels last"),
        option("sdpa_kernel", Integer(0, 255), "which attention kernels, as a sum of bits"),
        option("fuse_conv_bias", Switch, "join convolution and bias"),
        option("enable_skip_layer_norm_strict_mode", Switch, "exact layer normalisation, and slower"),
    ],
    ..PLAIN
};

pub(super) static TENSORRT: Facts = Facts {
    name: "tensorrt",
    runtime_name: "TensorrtExecutionProvider",
    hardware: "NVIDIA GPUs and DLA, by engines that it builds",
    source: "the wheel onnxruntime-gpu beside TensorRT, or JetPack's own library",
    kept: Kept::InFolder("trt_engine_cache_path"),
    // It rounds by itself where `trt_fp16_enable` says so, and wants f32 for that.
    precisions: &[Precision::F32],
    has_own_memory: true,
    keeps: Some(DeviceMemory { name: "Cuda", by: Provider::Cuda, records_by: "trt_cuda_graph_enable" }),
    gains_from_batches: true,
    leaves_shapes: true,
    auto: Auto::Never(SLOW_FIRST),
    tolerance: 2e-2,
    options: &[
        DEVICE_ID,
        option("trt_fp16_enable", Switch, "compute in 16 bits"),
        option("trt_bf16_enable", Switch, "compute in bfloat16"),
        option("trt_int8_enable", Switch, "compute in 8 bits; wants a calibration table or a quantised network"),
        option("trt_int8_calibration_table_name", File, "the calibration table"),
        option("trt_int8_use_native_calibration_table", Switch, "the table is TensorRT's own"),
        option("trt_dla_enable", Switch, "run on the deep learning accelerator of a Jetson"),
        option("trt_dla_core", Integer(0, 7), "which accelerator"),
        option("trt_engine_cache_enable", Switch, "keep built engines"),
        option("trt_engine_cache_path", Folder, "where engines are kept"),
        option("trt_engine_cache_prefix", Text, "how their names begin"),
        option("trt_engine_hw_compatible", Switch, "engines that newer GPUs take as well"),
        option("trt_timing_cache_enable", Switch, "keep measured times, which shortens the next build"),
        option("trt_timing_cache_path", Folder, "where times are kept"),
        option("trt_force_timing_cache", Switch, "take times of another GPU"),
        option("trt_max_workspace_size", Integer(0, LARGEST_BYTES), "bytes that a layer may use while it runs"),
        option("trt_min_subgraph_size", Integer(1, 1_000_000), "nodes that a part must have to be taken"),
        option("trt_max_partition_iterations", Integer(1, 1_000_000), "how often the graph is cut"),
        option("trt_builder_optimization_level", Integer(0, 5), "0 builds quickly, 5 runs quickly"),
        option("trt_build_heuristics_enable", Switch, "guess rather than measure"),
        option("trt_auxiliary_streams", Integer(-1, 16), "streams beside the main one"),
        option("trt_sparsity_enable", Switch, "use sparse weights"),
        option("trt_context_memory_sharing_enable", Switch, "parts share their memory"),
        option("trt_layer_norm_fp32_fallback", Switch, "layer normalisation in 32 bits"),
        option("trt_cuda_graph_enable", Switch, "record kernels once"),
        option("trt_force_sequential_engine_build", Switch, "build one engine after the other"),
        option("trt_detailed_build_log", Switch, "say more while building"),
        option("trt_profile_min_shapes", Text, "smallest shapes, as sample:1x4x64x64"),
        option("trt_profile_opt_shapes", Text, "usual shapes"),
        option("trt_profile_max_shapes", Text, "largest shapes"),
        option("trt_tactic_sources", Text, "libraries that kernels may come from"),
        option("trt_extra_plugin_lib_paths", Library, "a library of TensorRT plugins"),
        option("trt_dump_ep_context_model", Switch, "write a model that names the engine"),
        option("trt_ep_context_file_path", Text, "where that model goes"),
        option("trt_ep_context_embed_mode", Integer(0, 1), "1 puts the engine into that model"),
        option("trt_weight_stripped_engine_enable", Switch, "engines without weights"),
        option("trt_onnx_model_folder_path", Folder, "where the weights of such an engine lie"),
    ],
    ..PLAIN
};

pub(super) static NVRTX: Facts = Facts {
    name: "nvrtx",
    runtime_name: "NvTensorRTRTXExecutionProvider",
    hardware: "NVIDIA RTX GPUs",
    source: "a plugin or a build of ONNX Runtime with TensorRT for RTX",
    kept: Kept::InFolder("nv_runtime_cache_path"),
    precisions: HALF_FIRST,
    has_own_memory: true,
    gains_from_batches: true,
    leaves_shapes: true,
    auto: Auto::Never(SLOW_FIRST),
    tolerance: 2e-2,
    options: &[
        DEVICE_ID,
        option("enable_cuda_graph", Switch, "record kernels once"),
        option("nv_max_workspace_size", Integer(0, LARGEST_BYTES), "bytes that a layer may use while it runs"),
        option("nv_max_shared_mem_size", Integer(0, LARGEST_BYTES), "bytes of shared memory"),
        option("nv_profile_min_shapes", Text, "smallest shapes, as sample:1x4x64x64"),
        option("nv_profile_opt_shapes", Text, "usual shapes"),
        option("nv_profile_max_shapes", Text, "largest shapes"),
        option("nv_multi_profile_enable", Switch, "several ranges of shapes"),
        option("nv_runtime_cache_path", Folder, "where compiled kernels are kept"),
    ],
    ..PLAIN
};

pub(super) static WEBGPU: Facts = Facts {
    name: "webgpu",
    runtime_name: "WebGpuExecutionProvider",
    hardware: "GPUs with Vulkan, Metal or Direct3D 12",
    source: "the wheel onnxruntime-webgpu, or the plugin wheel onnxruntime-ep-webgpu",
    precisions: HALF_FIRST,
    has_own_memory: true,
    keeps: Some(DeviceMemory { name: "WebGPU_Buffer", by: Provider::WebGpu, records_by: "enableGraphCapture" }),
    gains_from_batches: true,
    leaves_shapes: true,
    auto: Auto::Never(MAYBE_SLOWER),
    tolerance: 5e-3,
    measured_on: Some("a Vulkan driver that draws on the processor: pictures of five models, within 1 of 255"),
    options: &[
        option("deviceId", Integer(0, 63), "which device, from 0"),
        option("dawnBackendType", OneOf(&["Vulkan", "D3D12"]), "by which interface"),
        option("preferredLayout", OneOf(&["NCHW", "NHWC"]), "channels first or last"),
        option("enableGraphCapture", Switch, "record kernels once; shapes must stay the same"),
        option("validationMode", OneOf(&["disabled", "wgpuOnly", "basic", "full"]), "how much is checked"),
        option("storageBufferCacheMode", OneOf(&["disabled", "lazyRelease", "simple", "bucket"]), "how buffers are kept"),
        option("uniformBufferCacheMode", OneOf(&["disabled", "lazyRelease", "simple", "bucket"]), "how small buffers are kept"),
        option(
            "queryResolveBufferCacheMode",
            OneOf(&["disabled", "lazyRelease", "simple", "bucket"]),
            "how buffers of queries are kept",
        ),
        option("defaultBufferCacheMode", OneOf(&["disabled", "lazyRelease", "simple", "bucket"]), "how other buffers are kept"),
        option("forceCpuNodeNames", Text, "nodes that the processor runs"),
    ],
    ..PLAIN
};

pub(super) static MIGRAPHX: Facts = Facts {
    name: "migraphx",
    runtime_name: "MIGraphXExecutionProvider",
    hardware: "AMD GPUs",
    source: "the wheel onnxruntime-migraphx",
    precisions: HALF_FIRST,
    has_own_memory: true,
    gains_from_batches: true,
    leaves_shapes: true,
    auto: Auto::Never(SLOW_FIRST),
    tolerance: 2e-2,
    options: &[
        DEVICE_ID,
        option("migraphx_fp16_enable", Switch, "compute in 16 bits"),
        option("migraphx_fp8_enable", Switch, "compute in 8-bit floating point"),
        option("migraphx_int8_enable", Switch, "compute in 8 bits"),
        option("migraphx_exhaustive_tune", Switch, "measure every kernel"),
        option("migraphx_mem_limit", Integer(1, LARGEST_BYTES), "bytes that its memory may grow to"),
    ],
    ..PLAIN
};

pub(super) static DIRECTML: Facts = Facts {
    name: "directml",
    runtime_name: "DmlExecutionProvider",
    hardware: "GPUs and NPUs under Windows",
    source: "the wheel onnxruntime-directml",
    precisions: HALF_FIRST,
    has_own_memory: true,
    gains_from_batches: true,
    leaves_shapes: true,
    tolerance: 5e-3,
    options: &[
        DEVICE_ID,
        option("performance_preference", OneOf(&["default", "high_performance", "minimum_power"]), "speed against power"),
    ],
    ..PLAIN
};
