//! Tensors between Kiln's `f32` and `i64` and the element types of a network.

use anyhow::{Context, Result, anyhow, bail};
use half::{bf16, f16};
use ndarray::ArrayD;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};

use super::{Element, Port, Tensor};

/// What ONNX Runtime says of an input or output.
pub(super) fn port(name: &str, value: &ValueType) -> Result<Port> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = value else {
        bail!("`{name}` is not a tensor, and Kiln runs networks on tensors only");
    };
    let element = match ty {
        TensorElementType::Float32 => Element::Float32,
        TensorElementType::Float16 => Element::Float16,
        TensorElementType::Float64 => Element::Float64,
        TensorElementType::Bfloat16 => Element::BFloat16,
        TensorElementType::Int32 => Element::Int32,
        TensorElementType::Int64 => Element::Int64,
        TensorElementType::Bool => Element::Bool,
        _ => Element::Other(0),
    };
    let shape: Vec<Option<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    let symbols = dimension_symbols.iter().enumerate();
    let dimension_names = symbols
        .filter(|(place, symbol)| !symbol.is_empty() && shape.get(*place) == Some(&None))
        .map(|(place, symbol)| (place, symbol.to_string()))
        .collect();
    Ok(Port { name: name.to_owned(), element, shape, dimension_names })
}

/// Converts to the element type that the port declares, borrowing where none is needed.
pub(super) fn value<'t>(port: &Port, tensor: &'t Tensor) -> Result<SessionInputValue<'t>> {
    fn owned<T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
        array: ArrayD<T>,
    ) -> Result<SessionInputValue<'static>> {
        Ok(OrtTensor::from_array(array).map_err(|error| anyhow!("{error}"))?.into())
    }
    match (tensor, port.element) {
        (Tensor::Float(array), Element::Float32) if array.is_standard_layout() => {
            Ok(TensorRef::from_array_view(array.view()).map_err(|error| anyhow!("{error}"))?.into())
        }
        (Tensor::Float(array), Element::Float32) => owned(array.as_standard_layout().into_owned()),
        (Tensor::Float(array), Element::Float16) => owned(array.as_standard_layout().mapv(f16::from_f32)),
        (Tensor::Float(array), Element::BFloat16) => owned(array.as_standard_layout().mapv(bf16::from_f32)),
        (Tensor::Float(array), Element::Float64) => owned(array.as_standard_layout().mapv(f64::from)),
        (Tensor::Integer(array), Element::Int64) => owned(array.as_standard_layout().into_owned()),
        (Tensor::Integer(array), Element::Int32) => {
            let mut narrow = Vec::with_capacity(array.len());
            for value in array.iter() {
                narrow
                    .push(i32::try_from(*value).with_context(|| format!("{value} does not fit the i32 that the network takes"))?);
            }
            owned(ArrayD::from_shape_vec(array.raw_dim(), narrow)?)
        }
        #[expect(clippy::cast_precision_loss, reason = "ids and sizes are far below 2^23")]
        (Tensor::Integer(array), element) if element.is_float() => {
            let array = Tensor::Float(array.mapv(|value| value as f32));
            match (array, element) {
                (Tensor::Float(array), Element::Float16) => owned(array.mapv(f16::from_f32)),
                (Tensor::Float(array), Element::BFloat16) => owned(array.mapv(bf16::from_f32)),
                (Tensor::Float(array), Element::Float64) => owned(array.mapv(f64::from)),
                (Tensor::Float(array), _) => owned(array),
                (Tensor::Integer(_), _) => bail!("an integer tensor stayed one"),
            }
        }
        (Tensor::Float(_), element) => bail!("is {element}, and Kiln has floating-point numbers for it"),
        (Tensor::Integer(_), element) => bail!("is {element}, and Kiln has integers for it"),
    }
}

/// As [`value`], with memory of its own: `ort` copies a borrowed tensor before it is bound, and waits for itself without end while it does.
pub(super) fn owned_value<'t>(port: &Port, tensor: &'t Tensor) -> Result<SessionInputValue<'t>> {
    match (tensor, port.element) {
        (Tensor::Float(array), Element::Float32) => {
            let array = array.as_standard_layout().into_owned();
            Ok(OrtTensor::from_array(array).map_err(|error| anyhow!("{error}"))?.into())
        }
        _ => value(port, tensor),
    }
}

/// The output called `name`, as `f32`; of truths 1 and 0.
pub(super) fn float_output(outputs: &SessionOutputs<'_>, name: &str) -> Result<ArrayD<f32>> {
    let value = outputs.get(name).context("was not returned")?;
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        bail!("is not a tensor");
    };
    let array = match ty {
        TensorElementType::Float32 => value.try_extract_array::<f32>().map(|array| array.to_owned()),
        TensorElementType::Float16 => value.try_extract_array::<f16>().map(|array| array.mapv(f16::to_f32)),
        TensorElementType::Bfloat16 => value.try_extract_array::<bf16>().map(|array| array.mapv(bf16::to_f32)),
        #[expect(clippy::cast_possible_truncation, reason = "Kiln computes in f32")]
        TensorElementType::Float64 => value.try_extract_array::<f64>().map(|array| array.mapv(|value| value as f32)),
        TensorElementType::Bool => value.try_extract_array::<bool>().map(|array| array.mapv(f32::from)),
        other => bail!("is {other:?}, expected floating-point numbers"),
    };
    array.map_err(|error| anyhow!("{error}"))
}
