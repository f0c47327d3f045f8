"""Writes the product: cloud-optimised GeoTIFFs, one netCDF in the manner of ARIA's GUNW, and the STAC item."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS

from armillary_insar import __version__
from armillary_insar.geocode import MapGrid
from armillary_insar.safe import Floats
from armillary_insar.viewing import Viewing

SIGN = (
    "phase = arg(reference × conjugate(secondary)) = +4π/λ × (secondary range − reference range): positive means "
    "that the ground was farther from the radar at the secondary (later) date"
)
NOT_APPLIED = (
    "ionosphere",
    "troposphere",
    "solid-earth tide",
    "ocean tide loading",
    "residual azimuth FM-rate and bistatic shifts (common to both dates)",
    "azimuth motion of the ground (in TOPS it leaks into the phase as 2π f_DC Δt)",
)
ATTRIBUTION = "Contains modified Copernicus Sentinel data"


@dataclass(frozen=True)
class Layers:
    """The product's map layers; NaN where there is no value."""

    unwrapped_rad: npt.NDArray[np.float32]
    wrapped_rad: npt.NDArray[np.float32]
    coherence: npt.NDArray[np.float32]
    amplitude: npt.NDArray[np.float32]
    components: npt.NDArray[np.uint16]
    displacement_m: npt.NDArray[np.float32]  # toward the satellite


@dataclass(frozen=True)
class Identity:
    """What the product is made of, for names and metadata."""

    product_id: str
    reference_name: str
    secondary_name: str
    reference_start: datetime
    secondary_start: datetime
    secondary_stop: datetime
    relative_orbit: int
    ascending: bool
    polarisation: str
    wavelength_m: float
    looks: tuple[int, int]
    simulated: bool


LAYER_FILES: dict[str, tuple[str, str, str]] = {
    # field: file, title, unit
    "unwrapped_rad": ("unwrapped_phase.tif", "Unwrapped phase (filtered)", "rad"),
    "wrapped_rad": ("wrapped_phase.tif", "Wrapped phase (unfiltered)", "rad"),
    "coherence": ("coherence.tif", "Interferometric coherence", "1"),
    "amplitude": ("amplitude.tif", "Amplitude, geometric mean of both dates", "digital number"),
    "components": ("connected_components.tif", "Connected components of the unwrapping", "1"),
    "displacement_m": (
        "los_displacement.tif",
        "Displacement toward the satellite, −λ/4π × unwrapped phase, known up to one constant",
        "m",
    ),
}


def write_layers(folder: Path, grid: MapGrid, layers: Layers, identity: Identity) -> None:
    """One cloud-optimised GeoTIFF a layer, with sign and dates in its tags."""
    for field, (name, title, unit) in LAYER_FILES.items():
        data = getattr(layers, field)
        whole = data.dtype == np.uint16
        with rasterio.open(
            folder / name,
            "w",
            driver="COG",
            width=grid.columns,
            height=grid.rows,
            count=1,
            dtype=data.dtype.name,
            crs=CRS.from_epsg(4326),
            transform=grid.transform,
            nodata=0 if whole else np.nan,
            compress="deflate",
            predictor=2 if whole else 3,
            blocksize=512,
            num_threads=2,
            overview_resampling="nearest" if whole else "average",
        ) as file:
            file.write(data, 1)
            file.set_band_description(1, title)
            file.update_tags(TITLE=title, UNIT=unit, SIGN_CONVENTION=SIGN, **_dates(identity))


def _dates(identity: Identity) -> dict[str, str]:
    return {
        "REFERENCE_DATE": f"{identity.reference_start:%Y-%m-%d}",
        "SECONDARY_DATE": f"{identity.secondary_start:%Y-%m-%d}",
        "REFERENCE_PRODUCT": identity.reference_name,
        "SECONDARY_PRODUCT": identity.secondary_name,
    }


def write_netcdf(
    path: Path,
    grid: MapGrid,
    layers: Layers,
    identity: Identity,
    cube_axes: tuple[Floats, Floats, Floats],
    cubes: Viewing,
    quality: dict[str, Any],
) -> None:
    """science/grids/data, science/grids/imagingGeometry and science/radarMetaData, named as in ARIA's GUNW."""
    with netCDF4.Dataset(path, "w") as file:
        file.setncatts(
            {
                "Conventions": "CF-1.8",
                "title": "Sentinel-1 geocoded unwrapped interferogram",
                "institution": "",
                "source": f"armillary-insar {__version__}",
                "comment": ATTRIBUTION,
                "sign_convention": SIGN,
                "corrections_not_applied": "; ".join(NOT_APPLIED),
                "product_id": identity.product_id,
                "reference_date": f"{identity.reference_start:%Y%m%d}",
                "secondary_date": f"{identity.secondary_start:%Y%m%d}",
                "simulated": "yes" if identity.simulated else "no",
            }
        )
        _write_data(file.createGroup("science/grids/data"), grid, layers)
        _write_cubes(file.createGroup("science/grids/imagingGeometry"), cube_axes, cubes)
        radar = file.createGroup("science/radarMetaData")
        radar.setncatts(
            {
                "wavelength": identity.wavelength_m,
                "orbitNumber": identity.relative_orbit,
                "orbitDirection": "ascending" if identity.ascending else "descending",
                "polarization": identity.polarisation,
                "rangeLooks": identity.looks[0],
                "azimuthLooks": identity.looks[1],
                "referenceProduct": identity.reference_name,
                "secondaryProduct": identity.secondary_name,
                "quality": json.dumps(quality),
            }
        )


def _write_data(group: Any, grid: MapGrid, layers: Layers) -> None:
    _axes(group, {"latitude": (grid.latitudes(), "degrees_north"), "longitude": (grid.longitudes(), "degrees_east")})
    _crs(group)
    names = {
        "unwrappedPhase": ("unwrapped_rad", "rad"),
        "wrappedPhase": ("wrapped_rad", "rad"),
        "coherence": ("coherence", "1"),
        "amplitude": ("amplitude", "1"),
        "connectedComponents": ("components", "1"),
        "lineOfSightDisplacement": ("displacement_m", "m"),
    }
    for name, (field, unit) in names.items():
        data = getattr(layers, field)
        fill = 0 if data.dtype == np.uint16 else np.float32(np.nan)
        variable = group.createVariable(
            name,
            data.dtype,
            ("latitude", "longitude"),
            zlib=True,
            complevel=1,
            shuffle=True,
            fill_value=fill,
            chunksizes=(min(512, grid.rows), min(512, grid.columns)),
        )
        variable.setncatts({"units": unit, "grid_mapping": "crs"})
        if "hase" in name:
            variable.setncattr("sign_convention", SIGN)
        variable[:] = data


def _write_cubes(group: Any, axes: tuple[Floats, Floats, Floats], cubes: Viewing) -> None:
    _axes(
        group,
        {
            "heightsMeta": (axes[2], "m"),
            "latitudeMeta": (axes[0], "degrees_north"),
            "longitudeMeta": (axes[1], "degrees_east"),
        },
    )
    _crs(group)
    names = {
        "incidenceAngle": (cubes.incidence_deg, "degree"),
        "lookAngle": (cubes.look_deg, "degree"),
        "azimuthAngle": (cubes.azimuth_deg, "degree"),
        "perpendicularBaseline": (cubes.perpendicular_baseline_m, "m"),
        "parallelBaseline": (cubes.parallel_baseline_m, "m"),
    }
    for name, (values, unit) in names.items():
        variable = group.createVariable(name, "f4", ("heightsMeta", "latitudeMeta", "longitudeMeta"), zlib=True)
        variable.setncatts({"units": unit, "grid_mapping": "crs"})
        variable[:] = values


def _axes(group: Any, axes: dict[str, tuple[Floats, str]]) -> None:
    for name, (values, unit) in axes.items():
        group.createDimension(name, len(values))
        variable = group.createVariable(name, "f8", (name,))
        variable.units = unit
        variable[:] = values


def _crs(group: Any) -> None:
    crs = group.createVariable("crs", "i4")
    crs.setncatts(
        {
            "grid_mapping_name": "latitude_longitude",
            "semi_major_axis": 6378137.0,
            "inverse_flattening": 298.257223563,
            "spatial_ref": CRS.from_epsg(4326).to_wkt(),
            "epsg_code": 4326,
        }
    )


def stac_item(
    identity: Identity, ring: list[tuple[float, float]], quality: dict[str, Any], lineage: dict[str, Any]
) -> dict[str, Any]:
    """The partial STAC item that the catalogue completes; SAR, satellite, processing and view fields."""
    assets = {
        name: {"title": title, "type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
        for name, title, _ in LAYER_FILES.values()
    }
    assets |= {
        f"{identity.product_id}.nc": {
            "title": "All layers and geometry cubes (netCDF)",
            "type": "application/x-netcdf",
            "roles": ["data"],
        },
        "browse.png": {"title": "Fringes and displacement", "type": "image/png", "roles": ["overview"]},
        "quality.json": {"title": "Quality summary", "type": "application/json", "roles": ["metadata"]},
    }
    return {
        "frame": "earth",
        "geometry": {"type": "Polygon", "coordinates": [[list(p) for p in [*ring, ring[0]]]]},
        "properties": {
            "title": f"Interferogram {identity.reference_start:%Y-%m-%d} to {identity.secondary_start:%Y-%m-%d}, track "
            f"{identity.relative_orbit}",
            "start_datetime": _utc(identity.reference_start),
            "end_datetime": _utc(identity.secondary_stop),
            "platform": "sentinel-1",
            "constellation": "sentinel-1",
            "instruments": ["c-sar"],
            "sar:instrument_mode": "IW",
            "sar:frequency_band": "C",
            "sar:center_frequency": round(299.792458e6 / identity.wavelength_m / 1e9, 6),
            "sar:polarizations": [identity.polarisation.upper()],
            "sar:product_type": "GUNW",
            "sar:looks_range": identity.looks[0],
            "sar:looks_azimuth": identity.looks[1],
            "sar:observation_direction": "right",
            "sat:relative_orbit": identity.relative_orbit,
            "sat:orbit_state": "ascending" if identity.ascending else "descending",
            "processing:level": "L2",
            "processing:software": {"armillary-insar": __version__},
            "processing:lineage": "; ".join(f"{k}: {v}" for k, v in lineage.items()),
            "insar:reference_date": f"{identity.reference_start:%Y-%m-%d}",
            "insar:secondary_date": f"{identity.secondary_start:%Y-%m-%d}",
            "insar:sign_convention": SIGN,
            "insar:corrections_not_applied": list(NOT_APPLIED),
            "insar:perpendicular_baseline_m": quality["baseline"]["perpendicular_m"],
            "insar:mean_coherence": quality["coherence"]["mean"],
            "insar:temporal_baseline_days": round(
                (identity.secondary_start - identity.reference_start) / timedelta(days=1), 3
            ),
            "insar:simulated": identity.simulated,
        },
        "assets": assets,
    }


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
