"""A whole instance whose bytes are in a bucket: signed uploads in, a job through links, a product delivered to another."""

import hashlib

DELIVERY = """\
kind: delivery
id: far
to: {{s3: {{bucket: {bucket}, prefix: in, endpoint: "{endpoint}", access_key: {{env: AWS_ACCESS_KEY_ID}},
     secret_key: {{env: AWS_SECRET_ACCESS_KEY}}}}}}
---
kind: rule
id: deliver-counted
when: {{product: {{collection: counted}}}}
then: {{deliver: far, role: product}}
"""


def test_the_road_from_file_to_delivery_leads_through_buckets(new_bucket, new_instance):
    ours, theirs = new_bucket(), new_bucket()
    options = ", ".join(f"{name}: '{value}'" for name, value in ours.options.items())
    config = f"store:\n  url: s3://{ours.name}/armillary\n  options: {{{options}}}\n"
    instance = new_instance(config, **ours.environment)
    definitions = instance.home / "definitions"
    instance.apply(definitions)
    (definitions / "delivery.yaml").write_text(DELIVERY.format(bucket=theirs.name, endpoint=theirs.endpoint))
    instance.armillary("apply", str(definitions / "delivery.yaml"))
    raw = instance.home / "with space.raw"
    raw.write_bytes(data := bytes(range(256)) * 4096)
    instance.armillary("ingest", str(raw))
    [delivery] = instance.wait(
        lambda: instance.get("/api/deliveries", state="sent")["deliveries"], "the delivery of the product"
    )
    assert delivery["sent"]["files"][0]["uri"].startswith(f"s3://{theirs.name}/in/counted/")
    [there] = theirs.objects().values()
    assert hashlib.sha256(there).hexdigest() == delivery["sent"]["files"][0]["sha256"]
    instance.armillary("granule", "download", "raw/with space", "--to", str(instance.home / "copy"))
    assert [path.read_bytes() for path in (instance.home / "copy").rglob("*.raw")] == [data]
    assert not (instance.home / "store").exists(), "nothing is kept beside the bucket"
    secret = ours.secret_key.encode()
    kept = [path for path in instance.home.rglob("*") if path.is_file() and "secrets" not in path.parts]
    assert not [path for path in kept if secret in path.read_bytes()]
    assert instance.doctor() == []
