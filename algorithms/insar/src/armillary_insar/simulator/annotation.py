"""Annotation and manifest of a product made from nothing, with the elements that readers of real products use."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from armillary_insar.safe import SPEED_OF_LIGHT, StateVectors
from armillary_insar.simulator.deformation import Floats
from armillary_insar.simulator.ground import geodetic, locate, state
from armillary_insar.simulator.tiff import data_offset

LINE_INTERVAL_S = 2.0555563e-3
RANGE_SAMPLING_HZ = 64_345_238.12571429
FREQUENCY_HZ = 5_405_000_454.334350


@dataclass(frozen=True)
class SwathLayout:
    """One subswath to make."""

    name: str
    first_sample: int  # on the common grid that starts at the product's near range
    first_line: int
    samples: int
    lines_per_burst: int
    burst_step: int  # lines from one burst's start to the next's
    bursts: int
    steering_deg_s: float
    edge_lines: int  # invalid at either end of a burst
    edge_samples: int


@dataclass(frozen=True)
class ProductLayout:
    """One product to make."""

    mission: str
    absolute_orbit: int
    ascending: bool
    start: datetime  # of the common grid's first line
    near_range_m: float
    swaths: tuple[SwathLayout, ...]
    doppler: tuple[float, float]  # Hz, Hz per s of range time
    first_burst_id: int

    @property
    def epoch(self) -> datetime:
        return self.start.replace(hour=0, minute=0, second=0, microsecond=0)

    @property
    def sample_m(self) -> float:
        return SPEED_OF_LIGHT / (2 * RANGE_SAMPLING_HZ)

    def burst_start(self, swath: SwathLayout, burst: int) -> datetime:
        lines = swath.first_line + burst * swath.burst_step
        return self.start + timedelta(seconds=lines * LINE_INTERVAL_S)

    def stop(self) -> datetime:
        last = max(s.first_line + (s.bursts - 1) * s.burst_step + s.lines_per_burst for s in self.swaths)
        return self.start + timedelta(seconds=last * LINE_INTERVAL_S)

    def name(self) -> str:
        return (
            f"{self.mission}_IW_SLC__1SSV_{self.start:%Y%m%dT%H%M%S}_{self.stop():%Y%m%dT%H%M%S}_"
            f"{self.absolute_orbit:06d}_{self.absolute_orbit * 7 % 0xFFFFFF:06X}_51F0"
        )

    def stem(self, swath: SwathLayout, number: int) -> str:
        start = self.burst_start(swath, 0)
        stop = self.burst_start(swath, swath.bursts - 1) + timedelta(seconds=swath.lines_per_burst * LINE_INTERVAL_S)
        return (
            f"{self.mission}-{swath.name}-slc-vv-{start:%Y%m%dt%H%M%S}-{stop:%Y%m%dt%H%M%S}-"
            f"{self.absolute_orbit:06d}-{self.absolute_orbit * 7 % 0xFFFFFF:06x}-{number:03d}"
        ).lower()


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"


def annotation_xml(layout: ProductLayout, swath: SwathLayout, orbit: StateVectors, guess: Floats) -> str:
    """The annotation of one subswath."""
    range_time = 2 * (layout.near_range_m + swath.first_sample * layout.sample_m) / SPEED_OF_LIGHT
    start = layout.burst_start(swath, 0)
    lines = swath.lines_per_burst * swath.bursts
    stop = layout.burst_start(swath, swath.bursts - 1) + timedelta(
        seconds=(swath.lines_per_burst - 1) * LINE_INTERVAL_S
    )
    middle_s = (start - layout.epoch).total_seconds() + lines / 2 * LINE_INTERVAL_S
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<product>
<adsHeader><missionId>{layout.mission}</missionId><productType>SLC</productType><polarisation>VV</polarisation>
<mode>IW</mode><swath>{swath.name}</swath><startTime>{stamp(start)}</startTime><stopTime>{stamp(stop)}</stopTime>
<absoluteOrbitNumber>{layout.absolute_orbit}</absoluteOrbitNumber><missionDataTakeId>1</missionDataTakeId>
<imageNumber>001</imageNumber></adsHeader>
<generalAnnotation><productInformation><pass>{"Ascending" if layout.ascending else "Descending"}</pass>
<timelinessCategory>Fast-24h</timelinessCategory><platformHeading>{_heading(orbit, middle_s):.9e}</platformHeading>
<projection>Slant Range</projection><rangeSamplingRate>{RANGE_SAMPLING_HZ:.15e}</rangeSamplingRate>
<radarFrequency>{FREQUENCY_HZ:.15e}</radarFrequency>
<azimuthSteeringRate>{swath.steering_deg_s:.15e}</azimuthSteeringRate></productInformation>
{_orbit_list(layout, orbit, middle_s)}
<attitudeList count="0"/>
{_fm_list(layout, swath, orbit, range_time)}</generalAnnotation>
<imageAnnotation><imageInformation><productFirstLineUtcTime>{stamp(start)}</productFirstLineUtcTime>
<productLastLineUtcTime>{stamp(stop)}</productLastLineUtcTime>
<ascendingNodeTime>{stamp(start - timedelta(seconds=2444))}</ascendingNodeTime>
<anchorTime>{stamp(start)}</anchorTime><productComposition>Individual</productComposition><sliceNumber>0</sliceNumber>
<sliceList count="0"/><slantRangeTime>{range_time:.15e}</slantRangeTime><pixelValue>Complex</pixelValue>
<outputPixels>16 bit Signed Integer</outputPixels><rangePixelSpacing>{layout.sample_m:.6e}</rangePixelSpacing>
<azimuthPixelSpacing>1.397e+01</azimuthPixelSpacing><azimuthTimeInterval>{LINE_INTERVAL_S:.15e}</azimuthTimeInterval>
<azimuthFrequency>{1 / LINE_INTERVAL_S:.15e}</azimuthFrequency><numberOfSamples>{swath.samples}</numberOfSamples>
<numberOfLines>{lines}</numberOfLines><zeroDopMinusAcqTime>0.0</zeroDopMinusAcqTime>
<incidenceAngleMidSwath>3.4e+01</incidenceAngleMidSwath></imageInformation>
<processingInformation><swathProcParamsList count="1"><swathProcParams><swath>{swath.name}</swath>
<rangeProcessing><windowType>Hamming</windowType><windowCoefficient>7.5e-01</windowCoefficient>
<totalBandwidth>5.65e+07</totalBandwidth><processingBandwidth>5.65e+07</processingBandwidth>
<lookBandwidth>5.65e+07</lookBandwidth><numberOfLooks>1</numberOfLooks><lookOverlap>0.0</lookOverlap></rangeProcessing>
<azimuthProcessing><windowType>Hamming</windowType><windowCoefficient>7.0e-01</windowCoefficient>
<totalBandwidth>3.27e+02</totalBandwidth><processingBandwidth>3.27e+02</processingBandwidth>
<lookBandwidth>3.27e+02</lookBandwidth><numberOfLooks>1</numberOfLooks><lookOverlap>0.0</lookOverlap></azimuthProcessing>
</swathProcParams></swathProcParamsList><ellipsoidName>WGS84</ellipsoidName></processingInformation></imageAnnotation>
{_doppler_list(layout, swath, range_time)}
<antennaPattern><antennaPatternList count="0"/></antennaPattern>
<swathTiming><linesPerBurst>{swath.lines_per_burst}</linesPerBurst><samplesPerBurst>{swath.samples}</samplesPerBurst>
{_burst_list(layout, swath)}</swathTiming>
{_grid(layout, swath, orbit, guess, range_time)}
<coordinateConversion><coordinateConversionList count="0"/></coordinateConversion>
<swathMerging><swathMergeList count="0"/></swathMerging>
</product>
"""


def _heading(orbit: StateVectors, time_s: float) -> float:
    position, velocity = state(orbit, time_s)
    lam = np.arctan2(position[1], position[0])
    phi = np.arcsin(position[2] / np.linalg.norm(position))
    east = np.array([-np.sin(lam), np.cos(lam), 0])
    north = np.array([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)])
    return float(np.degrees(np.arctan2(velocity @ east, velocity @ north)))


def _orbit_list(layout: ProductLayout, orbit: StateVectors, middle_s: float) -> str:
    rows = []
    for i in np.flatnonzero(np.abs(orbit.time_s - middle_s) < 80):
        p, v = orbit.position_m[i], orbit.velocity_m_s[i]
        rows.append(
            f"<orbit><time>{stamp(layout.epoch + timedelta(seconds=float(orbit.time_s[i])))}</time>"
            f"<frame>Earth Fixed</frame><position><x>{p[0]:.6f}</x><y>{p[1]:.6f}</y><z>{p[2]:.6f}</z></position>"
            f"<velocity><x>{v[0]:.9f}</x><y>{v[1]:.9f}</y><z>{v[2]:.9f}</z></velocity></orbit>"
        )
    return f'<orbitList count="{len(rows)}">' + "\n".join(rows) + "</orbitList>"


def _estimates(layout: ProductLayout, swath: SwathLayout) -> list[datetime]:
    """A moment at the middle of each burst: where the Doppler and FM estimates are given."""
    return [
        layout.burst_start(swath, k) + timedelta(seconds=swath.lines_per_burst / 2 * LINE_INTERVAL_S)
        for k in range(swath.bursts)
    ]


def _fm_list(layout: ProductLayout, swath: SwathLayout, orbit: StateVectors, range_time: float) -> str:
    """k_a = −2 v²/(λ R), with v² the product of the satellite's speed and its footprint's, as a parabola in range time."""
    tau = range_time + np.linspace(0, swath.samples / RANGE_SAMPLING_HZ, 9)
    rows = []
    for moment in _estimates(layout, swath):
        position, velocity = state(orbit, (moment - layout.epoch).total_seconds())
        v2 = float(velocity @ velocity) * 6_371_000 / float(np.linalg.norm(position))
        rate = -2 * v2 * FREQUENCY_HZ / SPEED_OF_LIGHT / (tau * SPEED_OF_LIGHT / 2)
        c = np.polynomial.polynomial.Polynomial.fit(tau - range_time, rate, 2).convert().coef
        rows.append(
            f"<azimuthFmRate><azimuthTime>{stamp(moment)}</azimuthTime><t0>{range_time:.15e}</t0>"
            f'<azimuthFmRatePolynomial count="3">{c[0]:.15e} {c[1]:.15e} {c[2]:.15e}</azimuthFmRatePolynomial>'
            "</azimuthFmRate>"
        )
    return f'<azimuthFmRateList count="{len(rows)}">' + "\n".join(rows) + "</azimuthFmRateList>"


def _doppler_list(layout: ProductLayout, swath: SwathLayout, range_time: float) -> str:
    d = layout.doppler
    rows = [
        f"<dcEstimate><azimuthTime>{stamp(m)}</azimuthTime><t0>{range_time:.15e}</t0>"
        f'<geometryDcPolynomial count="3">0.0 0.0 0.0</geometryDcPolynomial>'
        f'<dataDcPolynomial count="3">{d[0]:.6e} {d[1]:.6e} -1.8e+07</dataDcPolynomial>'
        '<dataDcRmsError>6.0e+00</dataDcRmsError><fineDceList count="0"/></dcEstimate>'
        for m in _estimates(layout, swath)
    ]
    return (
        f'<dopplerCentroid><dcEstimateList count="{len(rows)}">'
        + "\n".join(rows)
        + "</dcEstimateList></dopplerCentroid>"
    )


def _burst_list(layout: ProductLayout, swath: SwathLayout) -> str:
    lines, edge = swath.lines_per_burst, swath.edge_lines
    inside = np.zeros(lines, bool)
    inside[edge : lines - edge] = True
    first = " ".join(np.where(inside, swath.edge_samples, -1).astype(str))
    last = " ".join(np.where(inside, swath.samples - 1 - swath.edge_samples, -1).astype(str))
    origin = data_offset(lines * swath.bursts)
    rows = []
    for k in range(swath.bursts):
        moment = stamp(layout.burst_start(swath, k))
        anx = 2444 + (swath.first_line + k * swath.burst_step) * LINE_INTERVAL_S
        rows.append(
            f"<burst><azimuthTime>{moment}</azimuthTime><azimuthAnxTime>{anx:.15e}</azimuthAnxTime>"
            f"<sensingTime>{moment}</sensingTime><byteOffset>{origin + k * lines * swath.samples * 4}</byteOffset>"
            f'<firstValidSample count="{lines}">{first}</firstValidSample>'
            f'<lastValidSample count="{lines}">{last}</lastValidSample>'
            f'<burstId absolute="{layout.first_burst_id + k}">{layout.first_burst_id + k}</burstId></burst>'
        )
    return f'<burstList count="{swath.bursts}">' + "\n".join(rows) + "</burstList>"


def _grid(layout: ProductLayout, swath: SwathLayout, orbit: StateVectors, guess: Floats, range_time: float) -> str:
    rows = []
    samples = np.unique(np.linspace(0, swath.samples - 1, 11).astype(int))
    for k in range(swath.bursts + 1):
        last = k == swath.bursts
        moment = layout.burst_start(swath, min(k, swath.bursts - 1))
        if last:
            moment += timedelta(seconds=(swath.lines_per_burst - 1) * LINE_INTERVAL_S)
        for pixel in samples:
            tau = range_time + pixel / RANGE_SAMPLING_HZ
            point = locate(orbit, (moment - layout.epoch).total_seconds(), tau * SPEED_OF_LIGHT / 2, 300.0, guess)
            lat, lon, height = geodetic(point)
            rows.append(
                f"<geolocationGridPoint><azimuthTime>{stamp(moment)}</azimuthTime>"
                f"<slantRangeTime>{tau:.15e}</slantRangeTime>"
                f"<line>{swath.lines_per_burst * k - int(last)}</line><pixel>{pixel}</pixel>"
                f"<latitude>{lat:.12e}</latitude><longitude>{lon:.12e}</longitude><height>{height:.12e}</height>"
                "<incidenceAngle>3.4e+01</incidenceAngle><elevationAngle>3.0e+01</elevationAngle>"
                "</geolocationGridPoint>"
            )
    return (
        f'<geolocationGrid><geolocationGridPointList count="{len(rows)}">'
        + "\n".join(rows)
        + "</geolocationGridPointList></geolocationGrid>"
    )


def manifest_xml(layout: ProductLayout, stems: list[str], corners: list[tuple[float, float]]) -> str:
    """The manifest: platform, orbits, frame, and the list of files."""
    objects = "".join(
        f'<dataObject ID="product{s.replace("-", "")}" repID="s1Level1ProductSchema"><byteStream mimeType="text/xml">'
        f'<fileLocation locatorType="URL" href="./annotation/{s}.xml"/></byteStream></dataObject>'
        f'<dataObject ID="{s.replace("-", "")}" repID="s1Level1MeasurementSchema">'
        f'<byteStream mimeType="application/octet-stream">'
        f'<fileLocation locatorType="URL" href="./measurement/{s}.tiff"/></byteStream></dataObject>\n'
        for s in stems
    )
    relative = (layout.absolute_orbit - 73) % 175 + 1
    swaths = "".join(f"<s1sarl1:swath>{s.name}</s1sarl1:swath>" for s in layout.swaths)
    direction = "ASCENDING" if layout.ascending else "DESCENDING"
    coordinates = " ".join(f"{lat:.6f},{lon:.6f}" for lat, lon in corners)
    base = "http://www.esa.int/safe/sentinel-1.0"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="{base}" xmlns:s1="{base}/sentinel-1"
 xmlns:s1sar="{base}/sentinel-1/sar" xmlns:s1sarl1="{base}/sentinel-1/sar/level-1" xmlns:gml="http://www.opengis.net/gml"
 version="esa/safe/sentinel-1.0/sentinel-1/sar/level-1/slc/standard/iwsp">
<informationPackageMap/>
<metadataSection>
<metadataObject ID="processing"><metadataWrap><xmlData><safe:processing name="SLC Processing"
 start="{stamp(layout.stop())}" stop="{stamp(layout.stop())}"><safe:facility name="armillary-insar simulate">
<safe:software name="Sentinel-1 IPF" version="003.61"/></safe:facility></safe:processing></xmlData></metadataWrap></metadataObject>
<metadataObject ID="platform"><metadataWrap><xmlData><safe:platform><safe:nssdcIdentifier>2014-016A</safe:nssdcIdentifier>
<safe:familyName>SENTINEL-1</safe:familyName><safe:number>{layout.mission[-1]}</safe:number><safe:instrument>
<safe:familyName abbreviation="SAR">Synthetic Aperture Radar</safe:familyName><safe:extension>
<s1sarl1:instrumentMode><s1sarl1:mode>IW</s1sarl1:mode>{swaths}</s1sarl1:instrumentMode></safe:extension>
</safe:instrument></safe:platform></xmlData></metadataWrap></metadataObject>
<metadataObject ID="measurementOrbitReference"><metadataWrap><xmlData><safe:orbitReference>
<safe:orbitNumber type="start">{layout.absolute_orbit}</safe:orbitNumber>
<safe:orbitNumber type="stop">{layout.absolute_orbit}</safe:orbitNumber>
<safe:relativeOrbitNumber type="start">{relative}</safe:relativeOrbitNumber>
<safe:relativeOrbitNumber type="stop">{relative}</safe:relativeOrbitNumber>
<safe:cycleNumber>1</safe:cycleNumber><safe:phaseIdentifier>1</safe:phaseIdentifier><safe:extension>
<s1:orbitProperties><s1:pass>{direction}</s1:pass>
<s1:ascendingNodeTime>{stamp(layout.start - timedelta(seconds=2444))}</s1:ascendingNodeTime></s1:orbitProperties>
</safe:extension></safe:orbitReference></xmlData></metadataWrap></metadataObject>
<metadataObject ID="generalProductInformation"><metadataWrap><xmlData><s1sarl1:standAloneProductInformation>
<s1sarl1:instrumentConfigurationID>7</s1sarl1:instrumentConfigurationID><s1sarl1:missionDataTakeID>1</s1sarl1:missionDataTakeID>
<s1sarl1:transmitterReceiverPolarisation>VV</s1sarl1:transmitterReceiverPolarisation>
<s1sarl1:productClass>S</s1sarl1:productClass><s1sarl1:productClassDescription>SAR Standard L1 Product</s1sarl1:productClassDescription>
<s1sarl1:productComposition>Individual</s1sarl1:productComposition><s1sarl1:productType>SLC</s1sarl1:productType>
<s1sarl1:productTimelinessCategory>Fast-24h</s1sarl1:productTimelinessCategory>
<s1sarl1:sliceProductFlag>false</s1sarl1:sliceProductFlag></s1sarl1:standAloneProductInformation></xmlData></metadataWrap></metadataObject>
<metadataObject ID="acquisitionPeriod"><metadataWrap><xmlData><safe:acquisitionPeriod>
<safe:startTime>{stamp(layout.start)}</safe:startTime><safe:stopTime>{stamp(layout.stop())}</safe:stopTime>
</safe:acquisitionPeriod></xmlData></metadataWrap></metadataObject>
<metadataObject ID="measurementFrameSet"><metadataWrap><xmlData><safe:frameSet><safe:frame><safe:footPrint>
<gml:coordinates>{coordinates}</gml:coordinates></safe:footPrint></safe:frame></safe:frameSet></xmlData></metadataWrap></metadataObject>
</metadataSection>
<dataObjectSection>
{objects}</dataObjectSection>
</xfdu:XFDU>
"""
