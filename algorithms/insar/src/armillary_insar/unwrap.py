"""Phase filter and unwrapping: whirlwind inside, snaphu as a separate program where a site has it."""

import numpy as np
import numpy.typing as npt
import whirlwind

from armillary_insar.errors import Refusal

Complexes = npt.NDArray[np.complex64]
Floats32 = npt.NDArray[np.float32]
PATCH = 64


def goldstein(interferogram: Complexes, strength: float) -> Complexes:
    """Goldstein and Werner's filter (1998); a strength of zero returns the interferogram itself."""
    if strength == 0:
        return interferogram
    return np.asarray(whirlwind.goldstein(np.ascontiguousarray(interferogram), alpha=strength, psize=PATCH))


def unwrap(
    interferogram: Complexes, coherence: Floats32, looks: float, valid: npt.NDArray[np.bool_], method: str = "whirlwind"
) -> tuple[Floats32, npt.NDArray[np.uint16]]:
    """Unwrapped phase (NaN where invalid) and connected components (0 = none)."""
    chosen = {"whirlwind": _whirlwind, "snaphu": _snaphu}
    if method not in chosen:
        raise Refusal(f"Unwrapping method {method!r} is not known.", f"Choose one of {', '.join(chosen)}.")
    phase, components = chosen[method](interferogram, coherence, looks, valid)
    # Whatever the solver did to the phase itself, only its cycles are kept: rewrapped it is the input.
    wrapped = np.angle(interferogram)
    cycles = np.rint((np.nan_to_num(phase) - wrapped) / (2 * np.pi))
    whole = wrapped + 2 * np.pi * cycles
    return np.where(valid & np.isfinite(phase), whole, np.nan).astype(np.float32), components.astype(np.uint16)


def _whirlwind(
    interferogram: Complexes, coherence: Floats32, looks: float, valid: npt.NDArray[np.bool_]
) -> tuple[Floats32, npt.NDArray[np.uint32]]:
    mask = valid & (coherence > 0)
    # Unit magnitude: the coherence is given apart.
    unit = np.where(mask, np.exp(1j * np.angle(interferogram)), 0).astype(np.complex64)
    phase, components = whirlwind.unwrap(
        unit, np.where(mask, coherence, 0).astype(np.float32), max(1.0, min(looks, 300.0)), mask=mask
    )
    return phase, components


def _snaphu(
    interferogram: Complexes, coherence: Floats32, looks: float, valid: npt.NDArray[np.bool_]
) -> tuple[Floats32, npt.NDArray[np.uint32]]:
    try:
        import snaphu
    except ImportError as error:
        raise Refusal(
            "snaphu is not installed here.",
            "Install the extra armillary-insar[snaphu], whose licence is for "
            "non-commercial use, or unwrap with whirlwind.",
            "infrastructure",
        ) from error
    phase, components = snaphu.unwrap(interferogram, coherence, nlooks=looks, cost="smooth", init="mcf", mask=valid)
    return phase, components
