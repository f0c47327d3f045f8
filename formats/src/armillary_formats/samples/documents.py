"""The XML of the samples: manifest, annotation and orbit file, each with the elements that readers need."""

import hashlib
from datetime import datetime, timedelta
from math import degrees, pi
from pathlib import PurePosixPath

from armillary_formats.samples.scene import (
    AFTER_NODE,
    BURSTS,
    EARTH_RADIUS_M,
    LENGTH,
    LIGHT_M_S,
    PERIOD,
    SWATHS,
    Scene,
    Vector,
    below,
    compact,
    footprint,
    ground,
    position,
    slant_range_m,
    velocity,
)

ORBIT_MARGIN = timedelta(minutes=100)
STATE_VECTOR_STEP = timedelta(seconds=10)
TAI_AHEAD_OF_UTC = timedelta(seconds=37)


def manifest(scene: Scene, files: dict[str, bytes]) -> str:
    """`manifest.safe`: what was seen when and from which orbit, and the checksum of every file."""
    objects = "\n".join(_data_object(name, data) for name, data in sorted(files.items()))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:gml="http://www.opengis.net/gml" xmlns:xfdu="urn:ccsds:schema:xfdu:1"
    xmlns:safe="http://www.esa.int/safe/sentinel-1.0" xmlns:s1="http://www.esa.int/safe/sentinel-1.0/sentinel-1"
    xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1"
    version="esa/safe/sentinel-1.0/sentinel-1/sar/level-1/slc/standard/iwsp">
<metadataSection>
{_wrapped("processing", "PDI", _processing(scene))}
{_wrapped("platform", "DMD", _platform())}
{_wrapped("measurementOrbitReference", "DMD", _orbit_reference(scene))}
{_wrapped("generalProductInformation", "DMD", _product_information(scene))}
{_wrapped("acquisitionPeriod", "DMD", _acquisition_period(scene))}
{_wrapped("measurementFrameSet", "DMD", _frame_set(scene))}
</metadataSection>
<dataObjectSection>
{objects}
</dataObjectSection>
</xfdu:XFDU>
"""


def _wrapped(name: str, category: str, content: str) -> str:
    classification = "PROVENANCE" if category == "PDI" else "DESCRIPTION"
    return f"""<metadataObject ID="{name}" classification="{classification}" category="{category}">
<metadataWrap mimeType="text/xml" vocabularyName="SAFE"><xmlData>
{content}
</xmlData></metadataWrap></metadataObject>"""


def _processing(scene: Scene) -> str:
    return f"""<safe:processing name="Synthetic samples" start="{_iso(scene.end)}" stop="{_iso(scene.end)}">
<safe:facility name="armillary-formats"><safe:software name="Armillary samples" version="1"/></safe:facility>
</safe:processing>"""


def _platform() -> str:
    swaths = "".join(f"<s1sarl1:swath>{swath}</s1sarl1:swath>" for swath in SWATHS)
    return f"""<safe:platform><safe:nssdcIdentifier>2014-016A</safe:nssdcIdentifier>
<safe:familyName>SENTINEL-1</safe:familyName><safe:number>A</safe:number>
<safe:instrument><safe:familyName abbreviation="SAR">Synthetic Aperture Radar</safe:familyName>
<safe:extension><s1sarl1:instrumentMode><s1sarl1:mode>IW</s1sarl1:mode>{swaths}</s1sarl1:instrumentMode>
</safe:extension></safe:instrument></safe:platform>"""


def _orbit_reference(scene: Scene) -> str:
    absolute, relative = scene.absolute_orbit, scene.relative_orbit
    return f"""<safe:orbitReference>
<safe:orbitNumber type="start">{absolute}</safe:orbitNumber>
<safe:orbitNumber type="stop">{absolute}</safe:orbitNumber>
<safe:relativeOrbitNumber type="start">{relative}</safe:relativeOrbitNumber>
<safe:relativeOrbitNumber type="stop">{relative}</safe:relativeOrbitNumber>
<safe:extension><s1:orbitProperties><s1:pass>DESCENDING</s1:pass>
<s1:ascendingNodeTime>{_iso(scene.node)}</s1:ascendingNodeTime></s1:orbitProperties></safe:extension>
</safe:orbitReference>"""


def _product_information(scene: Scene) -> str:
    return f"""<s1sarl1:standAloneProductInformation>
<s1sarl1:missionDataTakeID>{scene.datatake}</s1sarl1:missionDataTakeID>
<s1sarl1:transmitterReceiverPolarisation>VV</s1sarl1:transmitterReceiverPolarisation>
<s1sarl1:productClass>S</s1sarl1:productClass><s1sarl1:productType>SLC</s1sarl1:productType>
<s1sarl1:productComposition>Individual</s1sarl1:productComposition>
<s1sarl1:productTimelinessCategory>Fast-24h</s1sarl1:productTimelinessCategory>
</s1sarl1:standAloneProductInformation>"""


def _acquisition_period(scene: Scene) -> str:
    return f"""<safe:acquisitionPeriod><safe:startTime>{_iso(scene.start)}</safe:startTime>
<safe:stopTime>{_iso(scene.end)}</safe:stopTime></safe:acquisitionPeriod>"""


def _frame_set(scene: Scene) -> str:
    corners = " ".join(f"{latitude:.6f},{longitude:.6f}" for longitude, latitude in footprint(scene))
    return f"""<safe:frameSet><safe:frame>
<safe:footPrint srsName="http://www.opengis.net/gml/srs/epsg.xml#4326">
<gml:coordinates>{corners}</gml:coordinates></safe:footPrint></safe:frame></safe:frameSet>"""


def _data_object(name: str, data: bytes) -> str:
    is_pixels = name.startswith("measurement/")
    identity = ("" if is_pixels else "product") + PurePosixPath(name).stem.replace("-", "")
    schema = "s1Level1MeasurementSchema" if is_pixels else "s1Level1ProductSchema"
    media_type = "application/octet-stream" if is_pixels else "text/xml"
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return f"""<dataObject ID="{identity}" repID="{schema}">
<byteStream mimeType="{media_type}" size="{len(data)}"><fileLocation locatorType="URL" href="./{name}"/>
<checksum checksumName="MD5">{md5}</checksum></byteStream></dataObject>"""


def annotation(scene: Scene, swath: str, width: int, height: int) -> str:
    """A swath's annotation: its radar, image, bursts, orbit and geolocation grid."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<product>
{_header(scene, swath)}
{_general_annotation(scene)}
{_image_annotation(scene, swath, width, height)}
{_swath_timing(scene, width, height)}
{_geolocation_grid(scene, swath, width, height)}
</product>
"""


def _header(scene: Scene, swath: str) -> str:
    return f"""<adsHeader><missionId>S1A</missionId><productType>SLC</productType>
<polarisation>VV</polarisation><mode>IW</mode><swath>{swath}</swath>
<startTime>{_iso(scene.start)}</startTime><stopTime>{_iso(scene.end)}</stopTime>
<absoluteOrbitNumber>{scene.absolute_orbit}</absoluteOrbitNumber>
<missionDataTakeId>{scene.datatake}</missionDataTakeId>
<imageNumber>{list(SWATHS).index(swath) + 1:03}</imageNumber></adsHeader>"""


def _general_annotation(scene: Scene) -> str:
    moments = [scene.start + timedelta(seconds=10 * i) for i in range(-5, 7)]
    orbits = "\n".join(_annotated_orbit(scene, moment) for moment in moments)
    return f"""<generalAnnotation><productInformation><pass>Descending</pass>
<timelinessCategory>Fast-24h</timelinessCategory>
<platformHeading>{degrees(below(scene, scene.start)[2]):.15e}</platformHeading>
<projection>Slant Range</projection><rangeSamplingRate>6.434523812571428e+07</rangeSamplingRate>
<radarFrequency>5.405000454334350e+09</radarFrequency>
<azimuthSteeringRate>1.590368784000000e+00</azimuthSteeringRate></productInformation>
<orbitList count="{len(moments)}">
{orbits}
</orbitList></generalAnnotation>"""


def _annotated_orbit(scene: Scene, moment: datetime) -> str:
    return f"""<orbit><time>{_iso(moment)}</time><frame>Earth Fixed</frame>
<position>{_axes(position(scene, moment))}</position><velocity>{_axes(velocity(scene, moment))}</velocity></orbit>"""


def _axes(vector: Vector) -> str:
    return "".join(f"<{axis}>{value:.9e}</{axis}>" for axis, value in zip("xyz", vector, strict=True))


def _image_annotation(scene: Scene, swath: str, width: int, height: int) -> str:
    near, far = SWATHS[swath]
    interval = LENGTH.total_seconds() / height
    range_spacing = (slant_range_m(far) - slant_range_m(near)) / width
    azimuth_spacing = 2 * pi * EARTH_RADIUS_M / PERIOD.total_seconds() * interval
    return f"""<imageAnnotation><imageInformation>
<productFirstLineUtcTime>{_iso(scene.start)}</productFirstLineUtcTime>
<productLastLineUtcTime>{_iso(scene.end)}</productLastLineUtcTime>
<ascendingNodeTime>{_iso(scene.node)}</ascendingNodeTime>
<slantRangeTime>{_echo_seconds(near):.15e}</slantRangeTime><pixelValue>Complex</pixelValue>
<outputPixels>16 bit Signed Integer</outputPixels><rangePixelSpacing>{range_spacing:.6e}</rangePixelSpacing>
<azimuthPixelSpacing>{azimuth_spacing:.6e}</azimuthPixelSpacing>
<azimuthTimeInterval>{interval:.15e}</azimuthTimeInterval>
<azimuthFrequency>{1 / interval:.15e}</azimuthFrequency>
<numberOfSamples>{width}</numberOfSamples><numberOfLines>{height}</numberOfLines>
<incidenceAngleMidSwath>{(near + far) / 2:.15e}</incidenceAngleMidSwath>
</imageInformation></imageAnnotation>"""


def _echo_seconds(incidence: float) -> float:
    return 2 * slant_range_m(incidence) / LIGHT_M_S


def _swath_timing(scene: Scene, width: int, height: int) -> str:
    lines = height // BURSTS
    first, last = " ".join(["0"] * lines), " ".join([str(width - 1)] * lines)
    bursts = []
    for burst in range(BURSTS):
        moment = scene.moment(burst * lines / height)
        after_node = (moment - scene.start + AFTER_NODE).total_seconds()
        bursts.append(f"""<burst><azimuthTime>{_iso(moment)}</azimuthTime>
<azimuthAnxTime>{after_node:.15e}</azimuthAnxTime><firstValidSample count="{lines}">{first}</firstValidSample>
<lastValidSample count="{lines}">{last}</lastValidSample></burst>""")
    listed = "\n".join(bursts)
    return f"""<swathTiming><linesPerBurst>{lines}</linesPerBurst><samplesPerBurst>{width}</samplesPerBurst>
<burstList count="{BURSTS}">
{listed}
</burstList></swathTiming>"""


def _geolocation_grid(scene: Scene, swath: str, width: int, height: int) -> str:
    cells = [(i * (height // BURSTS), j * width // 8) for i in range(BURSTS + 1) for j in range(9)]
    points = "\n".join(_grid_point(scene, swath, cell, (cell[0] / height, cell[1] / width)) for cell in cells)
    return f"""<geolocationGrid><geolocationGridPointList count="{len(cells)}">
{points}
</geolocationGridPointList></geolocationGrid>"""


def _grid_point(scene: Scene, swath: str, cell: tuple[int, int], place: tuple[float, float]) -> str:
    near, far = SWATHS[swath]
    moment, incidence = scene.moment(place[0]), near + (far - near) * place[1]
    longitude, latitude = ground(scene, moment, incidence)
    return f"""<geolocationGridPoint><azimuthTime>{_iso(moment)}</azimuthTime>
<slantRangeTime>{_echo_seconds(incidence):.15e}</slantRangeTime><line>{cell[0]}</line><pixel>{cell[1]}</pixel>
<latitude>{latitude:.15e}</latitude><longitude>{longitude:.15e}</longitude><height>0</height>
<incidenceAngle>{incidence:.15e}</incidenceAngle></geolocationGridPoint>"""


def orbit_file(scene: Scene) -> tuple[str, str]:
    """The name and text of a restituted orbit file that covers the scene and an orbit on either side."""
    start, end = scene.node - ORBIT_MARGIN, scene.end + ORBIT_MARGIN
    created = end + timedelta(minutes=30)
    name = f"S1A_OPER_AUX_RESORB_OPOD_{compact(created)}_V{compact(start)}_{compact(end)}"
    count = (end - start) // STATE_VECTOR_STEP + 1
    vectors = "\n".join(_state_vector(scene, start + i * STATE_VECTOR_STEP) for i in range(count))
    return (
        f"{name}.EOF",
        f"""<?xml version="1.0" encoding="UTF-8"?>
<Earth_Explorer_File>
<Earth_Explorer_Header><Fixed_Header>
<File_Name>{name}</File_Name><File_Description>Synthetic circular orbit</File_Description><Notes></Notes>
<Mission>Sentinel-1A</Mission><File_Class>OPER</File_Class><File_Type>AUX_RESORB</File_Type>
<Validity_Period><Validity_Start>{_utc(start)}</Validity_Start><Validity_Stop>{_utc(end)}</Validity_Stop>
</Validity_Period><File_Version>0001</File_Version>
<Source><System>OPOD</System><Creator>armillary-formats</Creator><Creator_Version>1</Creator_Version>
<Creation_Date>{_utc(created)}</Creation_Date></Source></Fixed_Header>
<Variable_Header><Ref_Frame>EARTH_FIXED</Ref_Frame><Time_Reference>UTC</Time_Reference></Variable_Header>
</Earth_Explorer_Header>
<Data_Block type="xml"><List_of_OSVs count="{count}">
{vectors}
</List_of_OSVs></Data_Block>
</Earth_Explorer_File>
""",
    )


def _state_vector(scene: Scene, moment: datetime) -> str:
    (x, y, z), (vx, vy, vz) = position(scene, moment), velocity(scene, moment)
    orbit = scene.absolute_orbit + (moment - scene.node) // PERIOD
    return f"""<OSV><TAI>TAI={_iso(moment + TAI_AHEAD_OF_UTC)}</TAI><UTC>UTC={_iso(moment)}</UTC>
<UT1>UT1={_iso(moment)}</UT1><Absolute_Orbit>+{orbit:05}</Absolute_Orbit>
<X unit="m">{x:.6f}</X><Y unit="m">{y:.6f}</Y><Z unit="m">{z:.6f}</Z>
<VX unit="m/s">{vx:.6f}</VX><VY unit="m/s">{vy:.6f}</VY><VZ unit="m/s">{vz:.6f}</VZ>
<Quality>NOMINAL</Quality></OSV>"""


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def _utc(moment: datetime) -> str:
    return moment.strftime("UTC=%Y-%m-%dT%H:%M:%S")
