//! Rows of the table of providers: those of processors and of chips for neural networks.

use super::option::Values::{File, Folder, Integer, Library, OneOf, Switch, Text};
use super::table::{
    ARENA, Auto, DEVICE_ID, FIXED_ONLY, Facts, HALF_FIRST, INTEGERS_FIRST, Kept, LARGEST_BYTES, MAYBE_SLOWER, PLAIN, SLOW_FIRST,
    option,
};

pub(super) static OPENVINO: Facts = Facts {
    name: "openvino",
    runtime_name: "OpenVINOExecutionProvider",
    hardware: "Intel processors, GPUs and NPUs",
    source: "the wheel onnxruntime-openvino, or the plugin wheel onnxruntime-ep-openvino",
    kept: Kept::InFolder("cache_dir"),
    tolerance: 1e-3,
    measured_on: Some("a processor: pictures of two models, within 1 of 255"),
    switch: ["false", "true"],
    options: &[
        option("device_type", Text, "CPU, GPU, GPU.1, NPU, or a mixture such as HETERO:GPU,CPU"),
        option("precision", OneOf(&["FP32", "FP16", "ACCURACY"]), "precision of the arithmetic"),
        option("num_of_threads", Integer(1, 1024), "threads"),
        option("num_streams", Integer(1, 255), "requests at once"),
        option("cache_dir", Folder, "where compiled networks are kept"),
        option("enable_opencl_throttling", Switch, "leave the processor more time while a GPU works"),
        option("enable_qdq_optimizer", Switch, "simplify quantised networks for an NPU"),
        option("disable_dynamic_shapes", Switch, "compile for the shapes of each call"),
        option("model_priority", OneOf(&["DEFAULT", "LOW", "MEDIUM", "HIGH"]), "which goes first on a shared device"),
        option("load_config", File, "a JSON file of OpenVINO's own properties"),
        option("reshape_input", Text, "fixed shapes, as sample[1,4,64,64]"),
    ],
    ..PLAIN
};

pub(super) static QNN: Facts = Facts {
    name: "qnn",
    runtime_name: "QNNExecutionProvider",
    hardware: "Qualcomm's NPU (HTP) and GPU",
    source: "the plugin wheel onnxruntime-qnn beside a stock library, or a build of ONNX Runtime with QNN",
    kept: Kept::Context,
    precisions: INTEGERS_FIRST,
    takes_fixed_shapes: true,
    auto: Auto::Never(FIXED_ONLY),
    tolerance: 2e-2,
    measured_on: Some("the simulator of its NPU: pictures of five models, within 4 of 255"),
    options: &[
        option("backend_type", OneOf(&["cpu", "gpu", "htp", "saver", "ir"]), "which part of the chip: the NPU, htp, unless said"),
        option("backend_path", Library, "the library of that part, instead of backend_type"),
        option("htp_arch", OneOf(&["0", "68", "69", "73", "75", "79", "81"]), "generation of the NPU"),
        option("soc_model", Integer(0, 10_000), "number of the chip"),
        DEVICE_ID,
        option(
            "htp_performance_mode",
            OneOf(&[
                "burst",
                "balanced",
                "default",
                "high_performance",
                "high_power_saver",
                "low_balanced",
                "extreme_power_saver",
                "low_power_saver",
                "power_saver",
                "sustained_high_performance",
            ]),
            "speed against power",
        ),
        option("htp_graph_finalization_optimization_mode", Integer(0, 3), "3 compiles longest and runs quickest"),
        option("enable_htp_fp16_precision", Switch, "compute f32 networks in 16 bits"),
        option("enable_htp_weight_sharing", Switch, "contexts share weights"),
        option("enable_htp_spill_fill_buffer", Switch, "contexts share a buffer"),
        option("enable_htp_shared_memory_allocator", Switch, "memory that both sides see"),
        option("offload_graph_io_quantization", Switch, "quantise inputs and outputs on the processor"),
        option("vtcm_mb", Integer(0, 64), "megabytes of the NPU's fast memory"),
        option("rpc_control_latency", Integer(0, 1_000_000), "microseconds that a call may wait"),
        option("qnn_context_priority", OneOf(&["low", "normal", "normal_high", "high"]), "which goes first on a shared device"),
        option("profiling_level", OneOf(&["off", "basic", "detailed", "optrace"]), "what is measured"),
        option("profiling_file_path", Text, "where measurements go"),
        option("qnn_saver_path", Library, "a library that writes calls down"),
        option("op_packages", Text, "operators of your own"),
    ],
    ..PLAIN
};

pub(super) static XNNPACK: Facts = Facts {
    name: "xnnpack",
    runtime_name: "XnnpackExecutionProvider",
    hardware: "ARM and x86 processors",
    source: "a build of ONNX Runtime with XNNPACK",
    auto: Auto::Never(MAYBE_SLOWER),
    tolerance: 1e-3,
    options: &[option("intra_op_num_threads", Integer(1, 1024), "threads")],
    ..PLAIN
};

pub(super) static ACL: Facts = Facts {
    name: "acl",
    runtime_name: "ACLExecutionProvider",
    hardware: "ARM processors",
    source: "a build of ONNX Runtime with the Arm Compute Library",
    auto: Auto::Never(MAYBE_SLOWER),
    tolerance: 1e-2,
    options: &[option("enable_fast_math", Switch, "round to bfloat16 where the processor has it")],
    ..PLAIN
};

pub(super) static ARMNN: Facts = Facts {
    name: "armnn",
    runtime_name: "ArmNNExecutionProvider",
    hardware: "ARM processors and Mali GPUs",
    source: "a build of ONNX Runtime with Arm NN",
    auto: Auto::Never(MAYBE_SLOWER),
    tolerance: 1e-2,
    options: &[option("use_arena", Switch, "keep freed memory")],
    ..PLAIN
};

pub(super) static RKNPU: Facts = Facts {
    name: "rknpu",
    runtime_name: "RknpuExecutionProvider",
    hardware: "Rockchip's NPU",
    source: "a build of ONNX Runtime with RKNPU",
    precisions: INTEGERS_FIRST,
    takes_fixed_shapes: true,
    auto: Auto::Never(FIXED_ONLY),
    tolerance: 2e-2,
    ..PLAIN
};

pub(super) static VITIS: Facts = Facts {
    name: "vitis",
    runtime_name: "VitisAIExecutionProvider",
    hardware: "AMD's NPU and Xilinx devices",
    source: "a build of ONNX Runtime with Vitis AI",
    kept: Kept::InFolder("cache_dir"),
    precisions: INTEGERS_FIRST,
    takes_fixed_shapes: true,
    auto: Auto::Never(FIXED_ONLY),
    tolerance: 2e-2,
    options: &[
        option("config_file", File, "its own configuration"),
        option("cache_dir", Folder, "where compiled networks are kept"),
        option("cache_key", Text, "the folder's name within"),
        option("enable_cache_file_io_in_mem", Switch, "keep them in memory"),
        option("xclbin", File, "the device's program"),
        option("target", Text, "which flow compiles"),
        option("opt_level", Integer(0, 65_536), "how much is optimised"),
    ],
    ..PLAIN
};

pub(super) static CANN: Facts = Facts {
    name: "cann",
    runtime_name: "CANNExecutionProvider",
    hardware: "Huawei Ascend",
    source: "a build of ONNX Runtime with CANN",
    precisions: HALF_FIRST,
    has_own_memory: true,
    gains_from_batches: true,
    auto: Auto::Never(SLOW_FIRST),
    tolerance: 2e-2,
    options: &[
        DEVICE_ID,
        option("npu_mem_limit", Integer(1, LARGEST_BYTES), "bytes that its memory may grow to"),
        ARENA,
        option("enable_cann_graph", Switch, "run whole graphs"),
        option("dump_graphs", Switch, "write graphs down"),
        option("dump_om_model", Switch, "write compiled models down"),
        option(
            "precision_mode",
            OneOf(&["force_fp32", "force_fp16", "allow_fp32_to_fp16", "must_keep_origin_dtype", "allow_mix_precision"]),
            "precision of the arithmetic",
        ),
        option("op_select_impl_mode", OneOf(&["high_performance", "high_precision"]), "speed against exactness"),
        option("optypelist_for_implmode", Text, "operators that this is for"),
    ],
    ..PLAIN
};

pub(super) static COREML: Facts = Facts {
    name: "coreml",
    runtime_name: "CoreMLExecutionProvider",
    hardware: "Apple's processor, GPU and Neural Engine",
    source: "ONNX Runtime for macOS",
    kept: Kept::InFolder("ModelCacheDirectory"),
    precisions: HALF_FIRST,
    tolerance: 2e-2,
    options: &[
        option("MLComputeUnits", OneOf(&["ALL", "CPUAndNeuralEngine", "CPUAndGPU", "CPUOnly"]), "which parts of the chip"),
        option("ModelFormat", OneOf(&["MLProgram", "NeuralNetwork"]), "the form that networks are compiled to"),
        option("RequireStaticInputShapes", Switch, "take fixed shapes only"),
        option("EnableOnSubgraphs", Switch, "take the bodies of loops as well"),
        option("SpecializationStrategy", OneOf(&["Default", "FastPrediction"]), "compile longer to run quicker"),
        option("ProfileComputePlan", Switch, "write down what runs where"),
        option("AllowLowPrecisionAccumulationOnGPU", Switch, "add in 16 bits"),
        option("ModelCacheDirectory", Folder, "where compiled networks are kept"),
    ],
    ..PLAIN
};

pub(super) static NNAPI: Facts = Facts {
    name: "nnapi",
    runtime_name: "NnapiExecutionProvider",
    hardware: "Android's accelerators",
    source: "ONNX Runtime for Android",
    precisions: INTEGERS_FIRST,
    takes_fixed_shapes: true,
    auto: Auto::Never(FIXED_ONLY),
    tolerance: 2e-2,
    options: &[
        option("fp16", Switch, "compute in 16 bits"),
        option("nchw", Switch, "channels first"),
        option("disable_cpu", Switch, "leave Android's own processor path out"),
        option("cpu_only", Switch, "Android's own processor path alone"),
    ],
    ..PLAIN
};
