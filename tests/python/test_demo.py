"""`make demo` saves two reports that match their hashes."""

import hashlib
import subprocess
import sys
import zipfile

import pytest


def demo(root, environment):
    done = subprocess.run(
        ["make", "-C", root, "demo"],
        env={**environment, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_saves_a_pdf_and_a_zip(root, build_dir, environment, need_tool):
    out = demo(root, environment)
    files = sorted((build_dir / "demo").iterdir())
    assert [f.name for f in files] == ["audit-report-en-us.pdf", "audit-report-zh-cn.zip"]
    for file in files:
        assert str(file) in out
        assert hashlib.sha256(file.read_bytes()).hexdigest() in out
    with zipfile.ZipFile(files[1]) as archive:
        assert archive.testzip() is None
        assert any(not name.isascii() for name in archive.namelist())
    need_tool("pdfinfo")
    info = subprocess.run(["pdfinfo", files[0]], capture_output=True, text=True, timeout=60)
    assert info.returncode == 0
    assert "Pages:" in info.stdout
    assert info.stderr == ""


@pytest.mark.parametrize("credentials", ["token", "found"])
def test_demo_uses_the_service_of_the_environment(root, build_dir, environment, mock, credentials):
    service = {
        "DBSS_ENDPOINT": mock.https,
        "DBSS_CA_FILE": mock.ca_file,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
        "DBSS_INSTANCE_ID": mock.instance_id,
        "DBSS_REPORT_ID": mock.zip["id"],
        "DBSS_LOCALE": "en-us",
    }
    if credentials == "found":
        del service["DBSS_TOKEN"], service["DBSS_PROJECT_ID"]
        service |= {
            "HUAWEICLOUD_SDK_AK": mock.access_key,
            "HUAWEICLOUD_SDK_SK": mock.secret_key,
            "HUAWEICLOUD_SDK_PROJECT_ID": mock.project_id,
        }
    out = demo(root, {**environment, **service})
    assert mock.zip["sha256"]["en-us"] in out
    [file] = (build_dir / "demo").iterdir()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == mock.zip["sha256"]["en-us"]
