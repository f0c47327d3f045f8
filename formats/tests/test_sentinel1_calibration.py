"""Auxiliary calibration: real ones, and what is none."""

import zipfile

import pytest

from armillary_formats import sentinel1_calibration
from armillary_formats.refusal import Refused

NAME = "S1A_AUX_CAL_V20190228T092500_G20210104T141310.SAFE"


def calibration(path, text="<auxiliaryCalibration><swath>IW1</swath></auxiliaryCalibration>", member="s1a-aux-cal.xml"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{NAME}/data/{member}", text)
    return path


def test_it_tells_from_when_it_is_valid_and_for_whom(tmp_path) -> None:
    item = sentinel1_calibration.read(calibration(tmp_path / f"{NAME}.zip"))
    assert item == {
        "id": NAME.removesuffix(".SAFE"),
        "geometry": None,
        "frame": "none",
        "properties": {
            "datetime": "2019-02-28T09:25:00Z",
            "created": "2021-01-04T14:13:10Z",
            "platform": "sentinel-1a",
            "constellation": "sentinel-1",
            "s1:swaths": ["IW1"],
        },
    }


@pytest.mark.real_data
def test_a_real_one(test_data) -> None:
    path = min((test_data / "insar" / "aux_cal_sentinel1_reader").glob("S1A*"))
    properties = sentinel1_calibration.read(path)["properties"]
    assert properties["datetime"] == "2019-02-28T09:25:00Z"
    assert {"IW1", "IW2", "IW3", "EW1", "WV1"} <= set(properties["s1:swaths"])


def test_what_is_none_is_refused(tmp_path) -> None:
    with pytest.raises(Refused, match="not named as an AUX_CAL"):
        sentinel1_calibration.read(calibration(tmp_path / "other.zip"))
    with pytest.raises(Refused, match="holds 0 files"):
        sentinel1_calibration.read(calibration(tmp_path / f"{NAME}.zip", member="other.xml"))
    with pytest.raises(Refused, match="not whole XML"):
        sentinel1_calibration.read(calibration(tmp_path / f"{NAME}.zip", text="<a>"))
