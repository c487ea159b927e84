"""`porchlightd --check`: a file is judged before anything starts; what is wrong is said with file, line and what would be right."""
import os
import subprocess

import pytest
from lib.porch import ROOT, program


def check(*args):
    done = subprocess.run([program("porchlightd"), *args, "--check"], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "# nothing\n\n", "http.workers = 8\nlog.level = debug # while we look\n", "http.listen = localhost:0\nadmin.listen = unix:/run/x/admin.sock\n",
                                  "notify.smtp_url = smtps://mail.example:465\ndrain = 250ms\n"])
def test_good_files_are_taken(tmp_path, text):
    (tmp_path / "a.conf").write_text(text)
    assert check("--config", str(tmp_path / "a.conf")) == (0, "configuration OK\n")


def test_the_sample_is_a_good_file_commented_out_or_not(tmp_path):
    with open(os.path.join(ROOT, "deploy", "porchlight.conf"), encoding="utf-8") as f:
        sample = f.read()
    assert check("--config", os.path.join(ROOT, "deploy", "porchlight.conf"))[0] == 0
    taken = "\n".join(line[1:] for line in sample.splitlines() if line.startswith("#") and not line.startswith("# "))
    (tmp_path / "all.conf").write_text(taken)
    assert taken.count(" = ") > 20 and check("--config", str(tmp_path / "all.conf")) == (0, "configuration OK\n")


@pytest.mark.parametrize("line, right", [
    ("http.worker = 8", "http.workers"), ("http.workers = 0", "a number from 1 to 64"), ("http.workers = many", "a number from 1 to 64"), ("drain = 5", "a time such as 90s, 40m or 24h"),
    ("log.level = loud", "debug, info, warn or error"), ("http.listen = 8080", "HOST:PORT"), ("notify.smtp_url = mail.example", "smtp:// or smtps://"),
    ("notify.sms_webhook = ftp://sms.example", "http:// or https://"), ("http.workers", "name = value"), ("db = host=/run/a", "db stands twice")])
def test_bad_files_are_refused_with_line_and_what_is_right(tmp_path, line, right):
    path = tmp_path / "b.conf"
    path.write_text(f"# settings\ndb = host=/run/postgresql\n{line}\n")
    code, said = check("--config", str(path))
    assert code == 1 and said.startswith(f"porchlightd: {path}:3: ") and right in said, said


def test_a_refusal_never_repeats_a_value(tmp_path):
    """It may be a secret, and what --check says stands in the journal."""
    (tmp_path / "c.conf").write_text("notify.webhook_key = " + "s3cret" * 20 + "\n")
    code, said = check("--config", str(tmp_path / "c.conf"))
    assert code == 1 and "notify.webhook_key" in said and "s3cret" not in said


def test_arguments_are_judged_by_the_same_rows():
    for args, right in ((("--set", "http.workers=900"), "from 1 to 64"), (("--http", "8080"), "HOST:PORT"), (("--set", "log.levle=info"), "log.level"), (("--config", "/nowhere"), "cannot be opened")):
        code, said = check(*args)
        assert code == 1 and right in said, said


def test_texts_that_make_two_text_messages_are_told(tmp_path):
    """GSM's alphabet has no \u0142, so that such a text has room for 70 characters only; at its longest, with the words that make it so. A file that cannot be used is refused."""
    (tmp_path / "de").mkdir()
    with open(os.path.join(ROOT, "deploy/messages/de/pin.txt"), encoding="utf-8") as f:
        text = f.read()
    conf = tmp_path / "d.conf"
    conf.write_text(f"notify.messages = {tmp_path}\n")
    (tmp_path / "de" / "pin.txt").write_text(text, encoding="utf-8")
    assert check("--config", str(conf)) == (0, "configuration OK\n")
    (tmp_path / "de" / "pin.txt").write_text(text.replace("[word log_in]\n", "[word log_in]\nf\u00fcr \u0141\u00f3d\u017a, "), encoding="utf-8")
    assert check("--config", str(conf)) == (0, "configuration OK\nporchlightd: notify.messages: [sms] of de/pin.txt makes 2 text messages\n")
    (tmp_path / "de" / "pin.txt").write_text(text.replace("{pin} ist", "Ihre PIN ist"), encoding="utf-8")
    code, said = check("--config", str(conf))
    assert code == 1 and f"{tmp_path}/de/pin.txt:" in said and "pin" in said, said
