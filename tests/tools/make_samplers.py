"""Records what diffusers' schedulers compute, for `tests/samplers.rs`.

Writes `cases.json` (configuration, run, timesteps, sigmas, which calls drew noise) and `loops.safetensors` (the sample
after every call, and the bank of noise that start and draws are taken from) into the folder given as the argument.

The denoiser is a stand-in that both sides compute alike in f32, element by element:

    prediction = 0.5 * scaled_input + bias * 0.25 * (1 + t / (|t| + 500)),   bias[i] = ((7 * i) mod 11 - 5) / 11

with i counting elements of one picture. For a learned variance a second half of 0.5 * bias is appended to the channels
(0.25 + 0.1 * bias for the type `learned`, which takes roots). The samplers of score networks have a stand-in of their own, in
`score_samplers.py`.

Needs diffusers==0.36.0 torch==2.9.1 numpy==2.4.6 scipy==1.17.1 safetensors==0.8.0. Run with OMP_NUM_THREADS=1:

    python tests/tools/make_samplers.py tests/golden/samplers
"""

import importlib
import json
import math
import pathlib
import sys
import warnings

import diffusers
import numpy as np
import safetensors.torch
import scipy
import torch

import score_samplers

MODULES = {
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler_discrete",
    "EulerAncestralDiscreteScheduler": "euler_ancestral_discrete",
    "HeunDiscreteScheduler": "heun_discrete",
    "DPMSolverMultistepScheduler": "dpmsolver_multistep",
    "UniPCMultistepScheduler": "unipc_multistep",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "FlowMatchEulerDiscreteScheduler": "flow_match_euler_discrete",
    "FlowMatchHeunDiscreteScheduler": "flow_match_heun_discrete",
    "CMStochasticIterativeScheduler": "consistency_models",
    "EDMEulerScheduler": "edm_euler",
    "FlowMatchLCMScheduler": "flow_match_lcm",
    "DDIMInverseScheduler": "ddim_inverse",
    "ScoreSdeVeScheduler": "sde_ve",
    "ScoreSdeVpScheduler": "sde_vp",
    "AnnealedLangevinScheduler": "annealed_langevin",
    "SCMScheduler": "scm",
}
BANK = 48
WIDEST = 192
SHAPE = [1, 2, 4, 4]

DDPM, DDIM, PNDM, EULER, ANCESTRAL, HEUN, DPM, UNIPC, LCM, TCD, FLOW, FLOW_HEUN, CM, EDM, FLOW_LCM, INVERSE, VE, VP, LANGEVIN, SCM = MODULES
SPACINGS = ["linspace", "leading", "trailing"]
PREDICTIONS = ["epsilon", "sample", "v_prediction"]
SPREADS = {"plain": {}, "karras": {"use_karras_sigmas": True}, "exponential": {"use_exponential_sigmas": True},
           "beta": {"use_beta_sigmas": True}}
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

cases = []


def case(class_name, run, name=None, shape=None, begin=0, to=None, choice=None, **config):
    """Adds one case. `to` converts to another class, `choice` names sampler and variant as a person does."""
    cases.append({
        "name": name or f"{MODULES[class_name]} {len(cases)}",
        "config": {"_class_name": class_name, **config},
        "run": run if isinstance(run, dict) else {"steps": run},
        "shape": shape or SHAPE,
        "begin": begin,
        **({"to": to} if to else {}),
        **({"choice": choice} if choice else {}),
    })


def describe():
    """Lists every case."""
    for spacing in SPACINGS:
        for prediction in PREDICTIONS:
            case(DDPM, 10, timestep_spacing=spacing, prediction_type=prediction)
            for clip in (True, False):
                case(DDIM, 10, timestep_spacing=spacing, prediction_type=prediction, clip_sample=clip, **LATENT)
    ddpm()
    ddim()
    pndm()
    euler()
    ancestral()
    heun()
    dpm()
    unipc()
    distilled()
    flow()
    consistency()
    edm()
    hidden()
    published()
    conversions()
    flow_lcm()
    few_step_bundles()
    ddim_inverse()
    score_based()
    continuous_consistency()


def ddpm():
    for steps in (1, 2, 4, 5, 20):
        case(DDPM, steps)
    for variance in ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"):
        case(DDPM, 5, variance_type=variance, clip_sample=False, **LATENT)
        case(DDPM, 5, variance_type=variance, timestep_spacing="trailing", shape=[2, 3, 4, 4])
    for schedule in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"):
        case(DDPM, 5, beta_schedule=schedule)
        case(DDPM, 5, beta_schedule=schedule, num_train_timesteps=100, clip_sample=False, timestep_spacing="linspace")
    case(DDPM, 5, thresholding=True, sample_max_value=1.5, shape=[2, 3, 4, 4])
    case(DDPM, 5, thresholding=True, dynamic_thresholding_ratio=0.7, sample_max_value=3.0, clip_sample=False)
    case(DDPM, 5, clip_sample_range=0.4)
    case(DDPM, 5, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction", **LATENT)
    case(DDPM, 5, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, **LATENT)
    case(DDPM, 5, steps_offset=1, **LATENT)
    case(DDPM, 1000, steps_offset=1, name="ddpm leaves its table")
    case(DDPM, 1001, name="ddpm with more steps than timesteps")
    case(DDPM, {"timesteps": [999, 800, 500, 200, 50, 0]})
    case(DDPM, {"timesteps": [700, 500, 3]}, clip_sample=False, **LATENT)
    case(DDPM, {"timesteps": [500, 700]})
    case(DDPM, {"timesteps": [1000, 700]})
    case(DDPM, 4, num_train_timesteps=8, trained_betas=[0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.4])
    case(DDPM, 10, begin=3)
    case(DDPM, 10, begin=9, clip_sample=False, **LATENT)
    case(DDPM, 5, shape=[1, 2, 3, 2, 2])
    case(DDPM, 103, name="ddpm trailing with one entry too many", timestep_spacing="trailing", shape=[1, 1, 2, 2])


def ddim():
    for steps in (1, 2, 4, 5, 20):
        case(DDIM, steps)
        case(DDIM, steps, timestep_spacing="trailing", set_alpha_to_one=False, clip_sample=False, steps_offset=1, **LATENT)
    for eta in (0.5, 1.0):
        for prediction in PREDICTIONS:
            case(DDIM, {"steps": 5, "eta": eta}, prediction_type=prediction, clip_sample=False, **LATENT)
    case(DDIM, {"steps": 5, "eta": 1.0}, rescale_betas_zero_snr=True, timestep_spacing="trailing",
         prediction_type="v_prediction", clip_sample=False, **LATENT)
    for prediction in PREDICTIONS:
        case(DDIM, 10, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type=prediction,
             clip_sample=False, **LATENT)
    case(DDIM, 10, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=True, **LATENT)
    case(DDIM, 5, thresholding=True, sample_max_value=2.0, shape=[2, 3, 4, 4], **LATENT)
    case(DDIM, 5, clip_sample_range=2.5, beta_schedule="squaredcos_cap_v2")
    case(DDIM, 5, beta_schedule="sigmoid", name="ddim without a sigmoid schedule")
    case(DDIM, 61, name="ddim trailing with one entry too many", timestep_spacing="trailing", clip_sample=False,
         shape=[1, 1, 2, 2], **LATENT)
    case(DDIM, 10, begin=4, clip_sample=False, **LATENT)
    case(DDIM, {"steps": 10, "eta": 0.3}, begin=7)
    case(DDIM, {"timesteps": [999, 500]}, name="ddim takes no timesteps")
    case(DDIM, {"sigmas": [10.0, 1.0, 0.0]}, name="ddim takes no sigmas")


def pndm():
    for skip in (True, False):
        for spacing in SPACINGS:
            for prediction in ("epsilon", "v_prediction"):
                case(PNDM, 10, skip_prk_steps=skip, timestep_spacing=spacing, prediction_type=prediction, **LATENT)
        for steps in (1, 2, 3, 4, 5, 20):
            case(PNDM, steps, skip_prk_steps=skip, steps_offset=1, **LATENT)
        case(PNDM, 10, skip_prk_steps=skip, set_alpha_to_one=True)
        for begin in (1, 2, 5):
            case(PNDM, 10, skip_prk_steps=skip, begin=begin, steps_offset=1, **LATENT)
    case(PNDM, 5, prediction_type="sample", skip_prk_steps=True, name="pndm cannot predict the sample")


def euler():
    for spacing in SPACINGS:
        for prediction in PREDICTIONS:
            for spread in SPREADS.values():
                for final in ("zero", "sigma_min"):
                    case(EULER, 6, timestep_spacing=spacing, prediction_type=prediction, final_sigmas_type=final, **spread,
                         **LATENT)
        for steps in (1, 2, 4, 10, 20):
            case(EULER, steps, timestep_spacing=spacing, steps_offset=1)
    for spread in SPREADS.values():
        for steps in (1, 2, 15):
            case(EULER, steps, **spread, **LATENT)
    case(EULER, 6, interpolation_type="log_linear", **LATENT)
    case(EULER, 6, interpolation_type="log_linear", use_karras_sigmas=True, **LATENT)
    case(EULER, 6, timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=0.002,
         sigma_max=700.0, **LATENT)
    case(EULER, 6, timestep_type="continuous", prediction_type="v_prediction", **LATENT)
    case(EULER, 6, timestep_type="continuous", **LATENT)
    case(EULER, {"timesteps": [999, 500, 1]}, timestep_type="continuous", prediction_type="v_prediction", **LATENT)
    case(EULER, 6, use_exponential_sigmas=True, sigma_min=0.05, sigma_max=10.0, **LATENT)
    case(EULER, 6, use_beta_sigmas=True, sigma_min=0.05, sigma_max=10.0, **LATENT)
    case(EULER, 6, use_beta_sigmas=True, use_karras_sigmas=True, name="euler with two spreads", **LATENT)
    for spacing in SPACINGS:
        case(EULER, 6, rescale_betas_zero_snr=True, timestep_spacing=spacing, prediction_type="v_prediction", **LATENT)
    case(EULER, 6, beta_schedule="squaredcos_cap_v2")
    case(EULER, 6, prediction_type="original_sample", **LATENT)
    case(EULER, {"timesteps": [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]}, **LATENT)
    case(EULER, {"timesteps": [900.5, 333.25, 10.75]}, timestep_spacing="leading", **LATENT)
    case(EULER, {"timesteps": [999, 500]}, use_karras_sigmas=True, **LATENT)
    case(EULER, {"timesteps": [999, 500]}, use_beta_sigmas=True, **LATENT)
    case(EULER, {"sigmas": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0]}, **LATENT)
    case(EULER, {"sigmas": [14.615, 6.315, 1.0, 0.113, 0.02]}, timestep_spacing="leading", use_karras_sigmas=True, **LATENT)
    case(EULER, {"sigmas": [14.615, 0.0], "timesteps": [999]}, name="euler takes timesteps or sigmas", **LATENT)
    for begin in (1, 3, 5):
        case(EULER, 6, begin=begin, timestep_spacing="leading", steps_offset=1, **LATENT)
        case(EULER, 6, begin=begin, use_karras_sigmas=True, **LATENT)
    case(EULER, 121, name="euler trailing with one entry too many", timestep_spacing="trailing", shape=[1, 1, 2, 2], **LATENT)
    for spread in ("karras", "exponential", "beta", "plain"):
        case(EULER, {"steps": 5, "sigma_schedule": spread}, use_karras_sigmas=spread == "plain", **LATENT)
    for spacing in SPACINGS:
        case(EULER, {"steps": 5, "spacing": spacing}, **LATENT)


def ancestral():
    for spacing in SPACINGS:
        for prediction in ("epsilon", "v_prediction"):
            for steps in (1, 2, 4, 10):
                case(ANCESTRAL, steps, timestep_spacing=spacing, prediction_type=prediction, steps_offset=1, **LATENT)
        case(ANCESTRAL, 5, timestep_spacing=spacing, rescale_betas_zero_snr=True, prediction_type="v_prediction", **LATENT)
    case(ANCESTRAL, 20)
    case(ANCESTRAL, 5, prediction_type="sample", name="euler ancestral cannot predict the sample")
    for begin in (1, 4):
        case(ANCESTRAL, 6, begin=begin, timestep_spacing="trailing", **LATENT)


def heun():
    for spacing in SPACINGS:
        for prediction in PREDICTIONS:
            for spread in SPREADS.values():
                case(HEUN, 4, timestep_spacing=spacing, prediction_type=prediction, **spread, **LATENT)
    for steps in (1, 2, 10, 20):
        case(HEUN, steps)
        case(HEUN, steps, timestep_spacing="leading", steps_offset=1, use_karras_sigmas=True, **LATENT)
    for schedule in ("linear", "squaredcos_cap_v2", "exp"):
        case(HEUN, 4, beta_schedule=schedule, clip_sample=True)
    case(HEUN, 4, clip_sample=True, clip_sample_range=0.5, **LATENT)
    case(HEUN, {"timesteps": [999, 600, 300, 20]}, **LATENT)
    case(HEUN, {"timesteps": [999, 600]}, use_karras_sigmas=True, **LATENT)
    for begin in (2, 4, 6):
        case(HEUN, 6, begin=begin, **LATENT)
    case(HEUN, 6, begin=3, name="heun begun between two levels", **LATENT)


def dpm():
    for algorithm in ("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"):
        for order in (1, 2, 3):
            for solver in ("midpoint", "heun"):
                for final in ("zero", "sigma_min"):
                    case(DPM, 8, algorithm_type=algorithm, solver_order=order, solver_type=solver, final_sigmas_type=final,
                         **LATENT)
        for prediction in PREDICTIONS + ["flow_prediction"]:
            case(DPM, 4, algorithm_type=algorithm, prediction_type=prediction, final_sigmas_type="sigma_min", **LATENT)
        case(DPM, 4, algorithm_type=algorithm, thresholding=True, final_sigmas_type="sigma_min", shape=[2, 3, 4, 4], **LATENT)
    lu = {"lu": {"use_lu_lambdas": True}}
    for spacing in SPACINGS:
        for prediction in PREDICTIONS:
            for spread in (SPREADS | lu).values():
                case(DPM, 6, timestep_spacing=spacing, prediction_type=prediction, steps_offset=1, **spread, **LATENT)
    for spread in (SPREADS | lu).values():
        for steps in (1, 2, 4, 20):
            case(DPM, steps, **spread, **LATENT)
        case(DPM, 6, final_sigmas_type="sigma_min", **spread, **LATENT)
        # Levels up to 20291, which this schedule reaches, leave an f32 too few digits to compare.
        case(DPM, 6, beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1, sigma_max=160.0, **spread)
    for order in (2, 3):
        case(DPM, 20, solver_order=order, **LATENT)
        case(DPM, 16, solver_order=order, final_sigmas_type="sigma_min", **LATENT)
        case(DPM, 8, solver_order=order, lower_order_final=False, final_sigmas_type="sigma_min", **LATENT)
        case(DPM, 8, solver_order=order, lower_order_final=False, **LATENT)
        case(DPM, 16, solver_order=order, euler_at_final=True, final_sigmas_type="sigma_min", **LATENT)
        for begin in (1, 4, 7):
            case(DPM, 8, solver_order=order, begin=begin, **LATENT)
            case(DPM, 8, solver_order=order, begin=begin, algorithm_type="sde-dpmsolver++", use_karras_sigmas=True, **LATENT)
    for shift in (1.0, 3.0, 5.0):
        case(DPM, 8, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift)
        case(DPM, 8, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, solver_order=3,
             algorithm_type="sde-dpmsolver++")
    case(DPM, 8, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, begin=3)
    case(DPM, {"steps": 8, "shift": 7.0}, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    case(DPM, {"steps": 8, "mu": 0.8}, use_flow_sigmas=True, prediction_type="flow_prediction", use_dynamic_shifting=True)
    case(DPM, {"steps": 8, "mu": 0.8}, use_flow_sigmas=True, prediction_type="flow_prediction", name="dpm takes no mu")
    for name in (DPM, UNIPC):
        for spread in ("karras", "exponential", "beta"):
            case(name, 6, use_flow_sigmas=True, prediction_type="flow_prediction", **SPREADS[spread])
            case(name, 6, lower_order_final=False, final_sigmas_type="sigma_min", **SPREADS[spread], **LATENT)
            case(name, 18, solver_order=3, final_sigmas_type="sigma_min", **SPREADS[spread], **LATENT)
        case(name, 1000, timestep_spacing="leading", name="two levels coincide", shape=[1, 1, 2, 2])
        case(name, 1000, name="two levels coincide", shape=[1, 1, 2, 2])
    for spread in ("karras", "exponential", "beta"):
        case(DPM, 18, solver_type="heun", final_sigmas_type="sigma_min", **SPREADS[spread], **LATENT)
        case(DPM, 18, solver_type="heun", final_sigmas_type="sigma_min", euler_at_final=True, **SPREADS[spread], **LATENT)
    for learned in ("learned", "learned_range"):
        case(DPM, 4, variance_type=learned, shape=[1, 3, 4, 4])
    case(DPM, 4, variance_type="fixed_small")
    case(DPM, 4, algorithm_type="deis", solver_type="logrho", **LATENT)
    case(DPM, 4, algorithm_type="deis", solver_type="logrho", final_sigmas_type="sigma_min", **LATENT)
    case(DPM, 4, timestep_spacing="leading", lambda_min_clipped=-3.0, **LATENT)
    case(DPM, 4, timestep_spacing="trailing", lambda_min_clipped=-2.0, **LATENT)
    case(DPM, 6, timestep_spacing="trailing", rescale_betas_zero_snr=True, prediction_type="v_prediction", **LATENT)
    case(DPM, {"timesteps": [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]}, **LATENT)
    case(DPM, {"timesteps": [999, 24]}, use_karras_sigmas=True, **LATENT)
    case(DPM, {"timesteps": [999, 24]}, use_lu_lambdas=True, **LATENT)


def unipc():
    for solver in ("bh1", "bh2"):
        for order in (1, 2, 3):
            for predict_x0 in (True, False):
                for final in ("zero", "sigma_min"):
                    case(UNIPC, 8, solver_type=solver, solver_order=order, predict_x0=predict_x0, final_sigmas_type=final,
                         **LATENT)
    for spacing in SPACINGS:
        for prediction in PREDICTIONS:
            for spread in SPREADS.values():
                case(UNIPC, 6, timestep_spacing=spacing, prediction_type=prediction, steps_offset=1, **spread, **LATENT)
    for spread in SPREADS.values():
        for steps in (1, 2, 4, 20):
            case(UNIPC, steps, **spread, **LATENT)
        case(UNIPC, 6, final_sigmas_type="sigma_min", **spread, **LATENT)
    for prediction in PREDICTIONS + ["flow_prediction"]:
        case(UNIPC, 5, prediction_type=prediction, predict_x0=False, final_sigmas_type="sigma_min", **LATENT)
    for shift in (1.0, 3.0, 5.0):
        for steps in (1, 2, 4, 10):
            case(UNIPC, steps, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift)
    case(UNIPC, 6, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, final_sigmas_type="sigma_min")
    case(UNIPC, {"steps": 8, "mu": 0.8}, use_flow_sigmas=True, prediction_type="flow_prediction", use_dynamic_shifting=True)
    case(UNIPC, 8, disable_corrector=[0, 1, 4], **LATENT)
    case(UNIPC, 8, solver_order=3, disable_corrector=[2], **LATENT)
    case(UNIPC, 8, lower_order_final=False, final_sigmas_type="sigma_min", solver_order=3, **LATENT)
    case(UNIPC, 8, lower_order_final=False, **LATENT)
    case(UNIPC, 1, lower_order_final=False, **LATENT)
    case(UNIPC, 5, thresholding=True, sample_max_value=2.0, shape=[2, 3, 4, 4], **LATENT)
    case(UNIPC, 5, solver_type="midpoint", **LATENT)
    case(UNIPC, 5, beta_schedule="squaredcos_cap_v2")
    case(UNIPC, 5, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction", **LATENT)
    for order in (2, 3):
        for begin in (1, 3, 7):
            case(UNIPC, 8, solver_order=order, begin=begin, **LATENT)
    case(UNIPC, 8, use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, begin=3)


def distilled():
    for name in (LCM, TCD):
        for steps in (1, 2, 4, 8, 50):
            case(name, steps)
        case(name, 51)
        for prediction in PREDICTIONS:
            case(name, 4, prediction_type=prediction, set_alpha_to_one=False)
            case(name, 4, prediction_type=prediction, rescale_betas_zero_snr=True)
        case(name, {"steps": 4, "original_steps": 25})
        case(name, {"steps": 4, "original_steps": 2000})
        case(name, 4, original_inference_steps=100)
        for strength in (0.3, 0.5, 0.8, 0.7):
            case(name, {"steps": 4, "strength": strength})
        case(name, {"steps": 4, "strength": 0.05})
        case(name, {"timesteps": [800]})
        case(name, {"timesteps": [999, 759, 499, 259]})
        case(name, {"timesteps": [999, 759, 499, 259], "strength": 0.5})
        case(name, {"timesteps": [259, 499]})
        case(name, 4, clip_sample=True, clip_sample_range=0.7)
        case(name, 4, thresholding=True, sample_max_value=1.5, shape=[2, 3, 4, 4])
        case(name, 4, beta_schedule="linear")
        case(name, 4, beta_schedule="squaredcos_cap_v2", num_train_timesteps=500)
        case(name, 4, timestep_scaling=5.0)
        for begin in (1, 3):
            case(name, 4, begin=begin)
    for eta in (0.0, 0.3, 0.5, 1.0):
        for steps in (1, 2, 4, 8):
            case(TCD, {"steps": steps, "eta": eta})
    case(TCD, {"steps": 8, "eta": 0.3, "original_steps": 50})


def flow():
    for shift in (1.0, 3.0, 1 / 3):
        for steps in (1, 2, 4, 10, 20, 28):
            case(FLOW, steps, shift=shift)
    for spread in SPREADS.values():
        case(FLOW, 6, shift=3.0, **spread)
        case(FLOW, {"steps": 6, "sigmas": linear_sigmas(6), "mu": 0.9}, use_dynamic_shifting=True, **spread)
    case(FLOW, 6, use_karras_sigmas=True, use_beta_sigmas=True)
    for kind in ("exponential", "linear"):
        for mu in (0.5, 1.15):
            case(FLOW, {"steps": 5, "mu": mu}, use_dynamic_shifting=True, time_shift_type=kind, shift=3.0)
            case(FLOW, {"sigmas": linear_sigmas(5), "mu": mu}, use_dynamic_shifting=True, time_shift_type=kind)
            case(FLOW, {"sigmas": linear_sigmas(5), "mu": mu}, use_dynamic_shifting=True, time_shift_type=kind,
                 shift_terminal=0.1)
    case(FLOW, 5, use_dynamic_shifting=True, name="flow euler misses mu")
    case(FLOW, 5, time_shift_type="cubic")
    case(FLOW, 5, shift_terminal=0.02)
    case(FLOW, 1, shift_terminal=0.02)
    case(FLOW, 5, shift_terminal=0.02, use_exponential_sigmas=True)
    case(FLOW, 5, invert_sigmas=True)
    case(FLOW, {"sigmas": linear_sigmas(5)}, invert_sigmas=True, shift=2.0)
    case(FLOW, 5, stochastic_sampling=True, shift=3.0)
    case(FLOW, 5, stochastic_sampling=True, begin=2)
    case(FLOW, 5, num_train_timesteps=100, shift=2.0)
    case(FLOW, {"timesteps": [1000, 750, 500, 250]}, shift=1.0)
    case(FLOW, {"timesteps": [1000, 750, 500, 250]}, shift=3.0)
    case(FLOW, {"timesteps": [1000, 750, 500], "sigmas": [1.0, 0.7, 0.4]}, shift=3.0)
    case(FLOW, {"timesteps": [1000, 750], "sigmas": [1.0, 0.7, 0.4]})
    case(FLOW, {"sigmas": [1.0, 0.5, 0.0]}, shift=3.0)
    case(FLOW, {"steps": 5, "shift": 6.0}, shift=3.0)
    case(FLOW, {"steps": 5, "sigma_schedule": "karras"}, shift=3.0)
    for begin in (1, 4):
        case(FLOW, 6, begin=begin, shift=3.0)
    for shift in (1.0, 3.0):
        for steps in (1, 2, 4, 10):
            case(FLOW_HEUN, steps, shift=shift)
        for begin in (2, 6):
            case(FLOW_HEUN, 6, begin=begin, shift=shift)
    case(FLOW_HEUN, 5, num_train_timesteps=100)
    case(FLOW_HEUN, {"steps": 5, "shift": 2.0}, shift=3.0)
    case(FLOW_HEUN, 6, begin=3, name="flow heun begun between two levels")
    case(FLOW_HEUN, {"sigmas": [1.0, 0.5]}, name="flow heun takes no sigmas")


def consistency():
    for trained in (40, 151, 201):
        for steps in (1, 2, 4, 10):
            case(CM, steps, num_train_timesteps=trained)
    case(CM, {"timesteps": [22, 0]}, name="consistency imagenet64, distilled")
    case(CM, {"timesteps": [17, 0]}, name="consistency lsun, distilled")
    case(CM, {"timesteps": [0]})
    case(CM, {"timesteps": [106, 0]}, num_train_timesteps=201, name="consistency imagenet64, trained")
    case(CM, {"timesteps": [0, 22]})
    case(CM, {"timesteps": [40, 0]})
    case(CM, 41)
    case(CM, 4, clip_denoised=False)
    case(CM, 4, s_noise=1.01, sigma_data=1.0, rho=5.0, sigma_min=0.01, sigma_max=50.0)
    case(CM, 40)
    for begin in (1, 3):
        case(CM, 4, begin=begin)


def edm():
    for schedule in ("karras", "exponential"):
        for prediction in ("epsilon", "v_prediction"):
            for final in ("zero", "sigma_min"):
                for steps in (1, 4, 10):
                    case(EDM, steps, sigma_schedule=schedule, prediction_type=prediction, final_sigmas_type=final)
    case(EDM, 6, rho=5.0, sigma_data=1.0, sigma_min=0.01, sigma_max=50.0)
    case(EDM, 5, prediction_type="sample")
    case(EDM, 5, sigma_schedule="linear")
    case(EDM, {"sigmas": [10.0, 1.0]})
    for begin in (1, 4):
        case(EDM, 6, begin=begin)


def hidden():
    """diffusers keeps keys that a class does not take, and some of its classes then use two of them after all."""
    for class_name in (HEUN, DPM, UNIPC):
        for spread in SPREADS.values():
            case(class_name, 5, sigma_min=0.05, sigma_max=10.0, **spread, **LATENT)
        case(class_name, 5, sigma_min=None, sigma_max=10.0, use_karras_sigmas=True, **LATENT)
    for spread in SPREADS.values():
        case(FLOW, 5, sigma_min=0.05, sigma_max=0.9, **spread)
    for spread in ("karras", "exponential", "beta"):
        for target in (HEUN, DPM, UNIPC):
            case(EULER, 5, sigma_min=0.05, sigma_max=10.0, to=target, **SPREADS[spread], **LATENT)


SD15 = {"_class_name": PNDM, "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "trained_betas": None, "clip_sample": False}
SD21 = {"_class_name": DDIM, "_diffusers_version": "0.8.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
        "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None}
SDXL = {"_class_name": EULER, "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear", "num_train_timesteps": 1000,
        "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False}
TURBO = {**SDXL, "timestep_spacing": "trailing", "timestep_type": "discrete", "sigma_max": None, "sigma_min": None,
         "rescale_betas_zero_snr": False}
DREAMSHAPER_LCM = {"_class_name": LCM, "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
                   "clip_sample": False, "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995,
                   "num_train_timesteps": 1000, "original_inference_steps": 50, "prediction_type": "epsilon",
                   "rescale_betas_zero_snr": False, "sample_max_value": 1.0, "set_alpha_to_one": True, "steps_offset": 0,
                   "thresholding": False, "timestep_scaling": 10.0, "timestep_spacing": "leading", "trained_betas": None}
CELEBA = {"_class_name": DDPM, "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001, "clip_sample": True,
          "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_small"}
DPM_CONFIG = {"_class_name": DPM, "algorithm_type": "dpmsolver++", "solver_type": "heun", "solver_order": 3, **LATENT,
              "use_karras_sigmas": True, "lower_order_final": True, "timestep_spacing": "trailing",
              "final_sigmas_type": "zero"}
FLUX = {"_class_name": FLOW, "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
        "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True}
WAN = {"_class_name": UNIPC, "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
       "solver_order": 2, "prediction_type": "flow_prediction", "thresholding": False, "predict_x0": True,
       "solver_type": "bh2", "lower_order_final": True, "disable_corrector": [], "solver_p": None,
       "use_flow_sigmas": True, "flow_shift": 3.0, "timestep_spacing": "linspace", "steps_offset": 0,
       "final_sigmas_type": "zero", "rescale_betas_zero_snr": False}
LTX = {"_class_name": FLOW, "base_image_seq_len": 1024, "base_shift": 0.95, "max_image_seq_len": 4096, "max_shift": 2.05,
       "num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": 0.1, "use_dynamic_shifting": True,
       "invert_sigmas": False, "time_shift_type": "exponential"}


def linear_sigmas(steps):
    return [float(sigma) for sigma in np.linspace(1.0, 1 / steps, steps)]


def shown(name, source, run, **rest):
    """A configuration as published, or nearly so."""
    case(source["_class_name"], run, name=name, **rest, **{key: value for key, value in source.items() if key != "_class_name"})


def published():
    for steps in (1, 4, 20, 50):
        shown(f"SD 1.5, {steps}", SD15, steps)
        shown(f"SD 2.1-v, {steps}", SD21, steps)
        shown(f"SDXL, {steps}", SDXL, steps)
    for begin in (2, 11):
        shown(f"SD 1.5 from picture, {begin}", SD15, 20, begin=begin)
        shown(f"SDXL from picture, {begin}", SDXL, 20, begin=begin)
    for steps in (1, 2, 3, 4):
        shown(f"SD-Turbo, {steps}", TURBO, steps)
        shown(f"SDXL-Turbo, {steps}", {**TURBO, "_class_name": ANCESTRAL}, steps)
    shown("SD-Turbo from picture", TURBO, 4, begin=2)
    for steps in (2, 4, 8):
        shown(f"SDXL-Lightning, {steps}", TURBO, steps)
        shown(f"Hyper-SD DDIM, {steps}", {**SD21, "prediction_type": "epsilon", "timestep_spacing": "trailing"}, steps)
    shown("SDXL-Lightning, one step", {**TURBO, "prediction_type": "sample"}, 1)
    shown("Hyper-SD one step", DREAMSHAPER_LCM, {"timesteps": [800]})
    for steps in (1, 2, 4, 8):
        shown(f"LCM Dreamshaper, {steps}", DREAMSHAPER_LCM, steps)
        shown(f"AnimateLCM, {steps}", {**DREAMSHAPER_LCM, "beta_schedule": "linear"}, steps)
    for eta in (0.3, 1.0):
        shown(f"TCD-LoRA, {eta}", {**DREAMSHAPER_LCM, "_class_name": TCD}, {"steps": 4, "eta": eta})
    for steps in (4, 28):
        shown(f"SD3, {steps}", {"_class_name": FLOW, "num_train_timesteps": 1000, "shift": 3.0}, steps)
        for length in (256, 1024, 4096):
            shown(f"Flux dev, {steps} at {length}", FLUX,
                  {"sigmas": linear_sigmas(steps), "image_sequence_length": length})
    for steps in (1, 4):
        shown(f"Flux schnell, {steps}", {**FLUX, "shift": 1.0, "use_dynamic_shifting": False},
              {"sigmas": linear_sigmas(steps)})
    shown("Qwen-Image-Lightning", {**FLUX, "base_shift": math.log(3), "max_shift": math.log(3), "max_image_seq_len": 8192,
                                   "shift": 1.0, "shift_terminal": None, "time_shift_type": "exponential"},
          {"sigmas": linear_sigmas(8), "image_sequence_length": 4096})
    shown("LTX-Video", LTX, {"sigmas": linear_sigmas(8), "image_sequence_length": 2000})
    shown("LTX-Video distilled", LTX, {"timesteps": [1000, 993, 987, 981, 975, 909, 725, 0.03], "mu": 1.2})
    shown("LTX-Video distilled, second pass", {**LTX, "shift_terminal": None, "use_dynamic_shifting": False},
          {"timesteps": [1000, 909, 725, 421, 0]})
    shown("LTX-2 distilled", {**LTX, "shift_terminal": None, "use_dynamic_shifting": False},
          {"sigmas": [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]})
    for steps in (4, 20):
        shown(f"Wan 2.1, {steps}", WAN, steps)
        shown(f"Wan 2.1 at 720p, {steps}", {**WAN, "flow_shift": 5.0}, steps)
    shown("DDPM CelebA", CELEBA, 25)
    shown("PCM for SD3", {"_class_name": FLOW, "num_train_timesteps": 1000, "shift": 1 / 3}, 4)


def conversions():
    targets = [DDPM, DDIM, PNDM, EULER, ANCESTRAL, HEUN, DPM, UNIPC, LCM, TCD, EDM]
    for label, source in (("SD 1.5", SD15), ("SD 2.1-v", SD21), ("SDXL", SDXL), ("SD-Turbo", TURBO), ("CelebA", CELEBA),
                          ("LCM", DREAMSHAPER_LCM), ("DPM", DPM_CONFIG),
                          ("sample", {**TURBO, "prediction_type": "sample"})):
        for target in targets:
            shown(f"{label} by {target}", source, 5, to=target)
    for target in (FLOW_HEUN, UNIPC, EULER):
        shown(f"Flux schnell by {target}", {**FLUX, "use_dynamic_shifting": False}, 4, to=target)
    shown(f"Wan by {DPM}", WAN, 6, to=DPM)
    for choice in ("sde-dpmsolver++", "dpmsolver++-karras", "sde-dpmsolver++-karras", "dpmsolver", "euler-beta",
                   "unipc-exponential", "heun-karras", "ddim-karras"):
        shown(f"SD 1.5 by {choice}", SD15, 6, choice=choice)


def flow_lcm():
    for shift in (1.0, 3.0):
        for steps in (1, 2, 4, 8):
            case(FLOW_LCM, steps, shift=shift)
    for spread in SPREADS.values():
        case(FLOW_LCM, 6, shift=3.0, **spread)
    case(FLOW_LCM, 6, use_karras_sigmas=True, use_beta_sigmas=True)
    for kind in ("exponential", "linear"):
        case(FLOW_LCM, {"steps": 5, "mu": 0.7}, use_dynamic_shifting=True, time_shift_type=kind, shift=3.0)
        case(FLOW_LCM, {"sigmas": linear_sigmas(5), "mu": 0.7}, use_dynamic_shifting=True, time_shift_type=kind,
             shift_terminal=0.1)
    case(FLOW_LCM, 5, use_dynamic_shifting=True, name="flow lcm misses mu")
    case(FLOW_LCM, 5, time_shift_type="cubic")
    case(FLOW_LCM, 5, invert_sigmas=True)
    case(FLOW_LCM, 4, scale_factors=[0.5], upscale_mode="bicubic", name="flow lcm of growing pictures")
    case(FLOW_LCM, 4, scale_factors=None, upscale_mode="bicubic", shape=[2, 3, 4, 4])
    case(FLOW_LCM, {"timesteps": [1000, 750, 500, 250]}, shift=3.0)
    case(FLOW_LCM, {"timesteps": [1000, 750, 500], "sigmas": [1.0, 0.7, 0.4]}, shift=3.0)
    case(FLOW_LCM, {"timesteps": [1000, 750], "sigmas": [1.0, 0.7, 0.4]})
    case(FLOW_LCM, {"sigmas": [1.0, 0.5, 0.0]}, shift=3.0)
    case(FLOW_LCM, {"steps": 5, "shift": 6.0}, shift=3.0)
    case(FLOW_LCM, {"steps": 5, "sigma_schedule": "karras"}, shift=3.0)
    for begin in (1, 3):
        case(FLOW_LCM, 4, begin=begin, shift=3.0)
    for steps in (1, 2, 4):
        shown(f"rectified flow by {FLOW_LCM}, {steps}", {"_class_name": FLOW, "num_train_timesteps": 1000, "shift": 3.0}, steps,
              to=FLOW_LCM)


def few_step_bundles():
    """What the small models in the box are run with."""
    cosine = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "clip_sample": True}
    pixel = [1, 3, 2, 2]
    case(DDPM, 1000, name="ddpm, every step", shape=pixel, **cosine)
    case(DDPM, 1000, name="ddpm of noise, every step", shape=pixel)
    for spacing in ("leading", "trailing"):
        for eta in (0.0, 0.5, 1.0):
            for steps in (1, 4, 10, 50):
                case(DDIM, {"steps": steps, "eta": eta}, timestep_spacing=spacing, shape=pixel, **cosine)
    for eta in (0.0, 1.0):
        case(DDPM, {"steps": 10, "eta": eta}, to=DDIM, timestep_spacing="trailing", shape=pixel, **cosine)
    case(DDIM, {"steps": 20, "eta": 0.3}, begin=8, timestep_spacing="trailing", shape=pixel, **cosine)


def ddim_inverse():
    for spacing in SPACINGS:
        for prediction in PREDICTIONS:
            for to_one in (True, False):
                case(INVERSE, 6, timestep_spacing=spacing, prediction_type=prediction, set_alpha_to_one=to_one,
                     clip_sample=False, **LATENT)
    for steps in (1, 2, 4, 20, 50):
        case(INVERSE, steps)
        case(INVERSE, steps, timestep_spacing="trailing", beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    case(INVERSE, 1000, steps_offset=1, name="ddim inverse leaves its table")
    case(INVERSE, 1001, name="ddim inverse with more steps than timesteps")
    case(INVERSE, 61, name="ddim inverse trailing with one entry too many", timestep_spacing="trailing", clip_sample=False,
         shape=[1, 1, 2, 2], **LATENT)
    case(INVERSE, 5, clip_sample_range=0.4)
    case(INVERSE, 5, steps_offset=1, clip_sample=False, **LATENT)
    case(INVERSE, 5, beta_schedule="sigmoid", name="ddim inverse without a sigmoid schedule")
    case(INVERSE, 4, num_train_timesteps=8, trained_betas=[0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.4])
    case(INVERSE, 5, shape=[2, 3, 4, 4], clip_sample=False)
    for prediction in ("epsilon", "v_prediction"):
        case(INVERSE, 5, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type=prediction,
             clip_sample=False, **LATENT)
    for label, source in (("SD 1.5", SD15), ("SD 2.1-v", SD21), ("CelebA", CELEBA)):
        for steps in (5, 20):
            shown(f"{label} by {INVERSE}, {steps}", source, steps, to=INVERSE)
    case(DDIM, 5, to=INVERSE, thresholding=True)
    case(INVERSE, 5, to=DDIM)
    case(INVERSE, {"timesteps": [0, 500]}, name="ddim inverse takes no timesteps")


def score_based():
    narrow = {"sigma_min": 0.01, "sigma_max": 50.0}
    for correct_steps in (0, 1, 2):
        for steps in (1, 2, 4, 10, 40):
            case(VE, steps, correct_steps=correct_steps, **narrow)
        case(VE, 12, correct_steps=correct_steps, snr=0.05)
        case(VE, 8, correct_steps=correct_steps, begin=3 * (correct_steps + 1), **narrow)
        for steps in (1, 2, 10, 40):
            case(VP, steps, correct_steps=correct_steps)
        case(VP, 12, correct_steps=correct_steps, snr=0.05, beta_min=0.2, beta_max=9.0, sampling_eps=0.01)
        case(VP, 8, correct_steps=correct_steps, begin=3 * (correct_steps + 1))
    case(VE, 200, shape=[1, 3, 2, 2], **narrow)
    case(VE, 8, snr=0.3, sampling_eps=0.01, **narrow)
    case(VE, 8, sigma_min=0.5, sigma_max=3.0, shape=[1, 2, 3, 2, 2])
    case(VP, 200, shape=[1, 3, 2, 2])
    for steps in (1, 2, 5, 10):
        for per_level in (1, 5):
            case(LANGEVIN, steps, steps_per_level=per_level)
            case(LANGEVIN, steps, steps_per_level=per_level, sigma_min=0.1, sigma_max=1.0, step_size=2e-3, denoise=False)
    case(LANGEVIN, 10, name="annealed langevin, 2019", sigma_max=1.0, steps_per_level=20, step_size=2e-5, denoise=False)
    case(LANGEVIN, 232, name="annealed langevin, 2020", shape=[1, 3, 2, 2])
    case(LANGEVIN, 40, steps_per_level=3, shape=[2, 3, 2, 2])
    case(LANGEVIN, 6, steps_per_level=4, begin=8)
    case(LANGEVIN, 6, steps_per_level=4, begin=24)


def continuous_consistency():
    for steps in (1, 2, 3, 4, 8, 20):
        case(SCM, steps)
    for sigma_data in (0.25, 1.0):
        case(SCM, 2, sigma_data=sigma_data)
        case(SCM, 4, sigma_data=sigma_data, begin=1)
    case(SCM, 2, prediction_type="trigflow", shape=[2, 3, 4, 4])
    case(SCM, 4, num_train_timesteps=4, begin=2)
    case(SCM, 4, shape=[1, 2, 3, 2, 2], begin=3)
    case(SCM, {"timesteps": [1.5708]})
    case(SCM, {"timesteps": [1.5708, 1.1]})
    case(SCM, {"timesteps": [1.4, 1.2, 0.7, 0.1]}, sigma_data=0.7)
    case(SCM, 5, num_train_timesteps=4, name="scm with more steps than timesteps")
    case(SCM, 2, prediction_type="epsilon", name="scm of another path")


def chosen(choice):
    """Class and keyword arguments for a sampler as a person names it."""
    arguments = {}
    for spread, keys in SPREADS.items():
        if choice.endswith("-" + spread):
            choice = choice.removesuffix("-" + spread)
            arguments |= {key: False for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")} | keys
    if "dpmsolver" in choice:
        arguments["algorithm_type"] = choice
        if not choice.endswith("++"):
            arguments["final_sigmas_type"] = "sigma_min"
        return DPM, arguments
    return {"euler": EULER, "unipc": UNIPC, "heun": HEUN, "ddim": DDIM}[choice], arguments


def build(entry):
    """Makes the scheduler of a case as a program that uses diffusers would."""
    run, config = entry["run"], entry["config"]
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    if "choice" in entry:
        name, arguments = chosen(entry["choice"])
        takes = getattr(diffusers, name)._get_init_keys(getattr(diffusers, name))
        if any(key not in takes for key in arguments):
            raise ValueError(f"{name} takes no {list(arguments)}")
        scheduler = getattr(diffusers, name).from_config(scheduler.config, **arguments)
    if "to" in entry:
        scheduler = getattr(diffusers, entry["to"]).from_config(scheduler.config)
    arguments = {}
    if "sigma_schedule" in run:
        arguments |= {key: False for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")}
        arguments |= SPREADS[run["sigma_schedule"]]
    if "spacing" in run:
        arguments["timestep_spacing"] = run["spacing"]
    if "shift" in run:
        arguments["flow_shift" if "flow_shift" in scheduler.config else "shift"] = run["shift"]
    return type(scheduler).from_config(scheduler.config, **arguments) if arguments else scheduler


def shift_of(config, length):
    """The line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift)."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return length * slope + (config.base_shift - slope * config.base_image_seq_len)


def start(scheduler, run):
    """Calls `set_timesteps` with what the run states."""
    arguments = {key: run[key] for key in ("timesteps", "sigmas", "mu", "strength") if key in run}
    if "original_steps" in run:
        arguments["original_inference_steps"] = run["original_steps"]
    if "image_sequence_length" in run:
        arguments["mu"] = shift_of(scheduler.config, run["image_sequence_length"])
    if isinstance(scheduler, diffusers.SCMScheduler):
        # The end is one of its timesteps, and times of one's own take the place of both others.
        if "timesteps" in run:
            arguments |= {"timesteps": [*run["timesteps"], 0.0], "num_inference_steps": len(run["timesteps"]), "max_timesteps": None}
        if run.get("steps") != 2:
            arguments["intermediate_timesteps"] = None
    if "timesteps" not in run and "sigmas" not in run:
        arguments["num_inference_steps"] = run["steps"]
    scheduler.set_timesteps(**arguments)


def denoise(scheduled, timestep, config, channels):
    """The stand-in for the network."""
    count = math.prod(scheduled.shape[1:])
    bias = torch.tensor([((7 * i) % 11 - 5) / 11 for i in range(count)], dtype=torch.float32).reshape(1, *scheduled.shape[1:])
    bias = bias.expand_as(scheduled)
    time = np.float32(timestep)
    weight = np.float32(0.25) * (np.float32(1) + time / (np.abs(time) + np.float32(500)))
    prediction = np.float32(0.5) * scheduled + bias * float(weight)
    variance = config.get("variance_type")
    if variance == "learned":
        prediction = torch.cat([prediction, 0.25 + 0.1 * bias], dim=1)
    elif variance == "learned_range":
        prediction = torch.cat([prediction, 0.5 * bias], dim=1)
    return prediction


class Noise:
    """Hands out the bank's tensors in order, and remembers that it did."""

    def __init__(self, bank):
        self.bank, self.given = bank, 0

    def __call__(self, shape, *_, **__):
        tensor = taken(self.bank, 2 + self.given % (BANK - 2), shape)
        self.given += 1
        return tensor


def taken(bank, row, shape):
    return bank[row, : math.prod(shape)].reshape(list(shape)).clone()


def record(entry, bank):
    """Runs one case and returns the samples after each call."""
    run, shape, begin = entry["run"], entry["shape"], entry["begin"]
    if entry["config"]["_class_name"] in score_samplers.DRIVERS:
        return record_score(entry, bank)
    scheduler = build(entry)
    start(scheduler, run)
    module = importlib.import_module(type(scheduler).__module__)
    noise = Noise(bank)
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = noise
    torch.randn_like = lambda tensor, **_: noise(tensor.shape)

    timesteps = scheduler.timesteps
    # Its samples have a deviation of their own, which its pipeline gives the noise and the latents.
    deviation = scheduler.config.sigma_data if isinstance(scheduler, diffusers.SCMScheduler) else None
    if deviation:
        timesteps = timesteps[:-1]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    entry["timesteps"] = [short(timestep) for timestep in timesteps]
    if isinstance(getattr(scheduler, "sigmas", None), torch.Tensor) and not isinstance(scheduler, diffusers.DDPMScheduler):
        entry["sigmas"] = [short(sigma) for sigma in scheduler.sigmas]
    # SD3's scheduler states none: the flow of pure noise begins at 1.
    initial = deviation or getattr(scheduler, "init_noise_sigma", 1.0)
    entry["init_noise_sigma"] = short(initial)
    entry["order"] = scheduler.order

    random = taken(bank, 0, shape)
    if begin:
        original = taken(bank, 1, shape) * 0.5
        if deviation:
            time = timesteps[begin]
            sample = torch.cos(time) * (original * deviation) + torch.sin(time) * (random * deviation)
        elif hasattr(scheduler, "scale_noise"):
            sample = scheduler.scale_noise(original, timesteps[begin : begin + 1], random)
        else:
            sample = scheduler.add_noise(original, random, timesteps[begin : begin + 1])
    else:
        sample = random * initial
    entry["draws"] = []
    loop = [sample]
    takes_eta = type(scheduler).__name__ in (DDIM, TCD) and "eta" in run
    for timestep in timesteps[begin:]:
        scaled = scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else sample
        prediction = denoise(scaled, timestep, scheduler.config, shape[1])
        before = noise.given
        arguments = {"eta": run["eta"]} if takes_eta else {}
        sample = scheduler.step(prediction, timestep, sample, **arguments).prev_sample
        assert sample.dtype == torch.float32 and list(sample.shape) == shape, (entry["name"], sample.dtype, sample.shape)
        entry["draws"].append(noise.given - before)
        loop.append(sample)
    return torch.stack(loop)


def record_score(entry, bank):
    """Runs one case of a score network's sampler and returns the samples after each call."""
    config, shape, begin = entry["config"], entry["shape"], entry["begin"]
    noise = Noise(bank)
    for scheduler in (score_samplers.ScoreSdeVeScheduler, score_samplers.ScoreSdeVpScheduler):
        importlib.import_module(scheduler.__module__).randn_tensor = noise
    original = taken(bank, 1, shape) * 0.5 if begin else None
    loop = score_samplers.DRIVERS[config["_class_name"]](config, entry["run"], begin, taken(bank, 0, shape), original, noise)
    entry["timesteps"] = [short(label) for label in loop.labels]
    entry["sigmas"] = [*entry["timesteps"], 0]
    entry["init_noise_sigma"] = short(loop.initial)
    entry["order"], entry["draws"] = loop.order, loop.draws
    return torch.stack(loop.samples)


def short(value):
    """The shortest decimal that reads back as the same f32."""
    number = float(value)
    return int(number) if number == int(number) else float(str(np.float32(number)))


def take_roots_as_ieee():
    """Makes torch round square roots as IEEE 754 does, and as torch itself does on ARM.

    On x86 torch hands roots, and powers of one half, to MKL, whose last bit is not always that. At zero terminal SNR the
    first step subtracts samples thousands of times larger than its result, and that bit shows.
    """
    power = torch.Tensor.__pow__

    def root(tensor):
        assert tensor.dtype == torch.float32
        return torch.from_numpy(np.asarray(np.sqrt(tensor.numpy())))

    torch.Tensor.sqrt = torch.sqrt = root
    torch.Tensor.__pow__ = lambda tensor, exponent: root(tensor) if exponent == 0.5 else power(tensor, exponent)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    take_roots_as_ieee()
    diffusers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    bank = torch.randn(BANK, WIDEST, generator=torch.Generator().manual_seed(2026))
    describe()
    tensors = {"bank": bank}
    counts = {}
    for number, entry in enumerate(cases):
        name = entry.get("to") or ("choice" in entry and chosen(entry["choice"])[0]) or entry["config"]["_class_name"]
        try:
            loop = record(entry, bank)
        except Exception as error:
            if name in score_samplers.DRIVERS:
                raise  # the driver's fault, since none of its cases is one to refuse
            for key in ("timesteps", "sigmas", "init_noise_sigma", "order", "draws"):
                entry.pop(key, None)
            entry["error"] = f"{type(error).__name__}: {error}"[:160]
            name += ", refused"
        else:
            if torch.isfinite(loop).all():
                tensors[str(number)] = loop.contiguous()
            else:
                for key in ("timesteps", "sigmas", "init_noise_sigma", "order", "draws"):
                    entry.pop(key, None)
                entry["error"] = "not finite"
                name += ", refused"
        counts[name] = counts.get(name, 0) + 1
    made = {
        "made_by": "tests/tools/make_samplers.py",
        "versions": {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": np.__version__,
                     "scipy": scipy.__version__},
        "counts": dict(sorted(counts.items())),
    }
    lines = ",\n".join(json.dumps(entry, separators=(",", ":"), allow_nan=False) for entry in cases)
    (folder / "cases.json").write_text(json.dumps(made, indent=1)[:-2] + ',\n "cases": [\n' + lines + "\n]}\n")
    safetensors.torch.save_file(tensors, folder / "loops.safetensors")
    print(json.dumps(made, indent=1), len(cases), "cases")


if __name__ == "__main__":
    main()
