package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"mailform/server/manifest"
)

// TestHardening holds the score of systemd-analyze security, where that exists.
func TestHardening(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, ServiceUnit)
	if err := os.WriteFile(file, []byte(Header+serviceText(manifest.EveryService())), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range manifest.EveryService() {
		if err := os.WriteFile(filepath.Join(dir, SocketUnit(p)), []byte(Header+socketText(p)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", file).CombinedOutput()
	if err != nil {
		t.Skipf("systemd-analyze security does not work here: %v: %s", err, out)
	}
	m := regexp.MustCompile(`exposure level for mailformd.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no score in:\n%s", out)
	}
	if score, err := strconv.ParseFloat(string(m[1]), 64); err != nil || score > 2.0 {
		t.Errorf("exposure level is %s, want at most 2.0:\n%s", m[1], out)
	} else {
		t.Logf("exposure level %s", m[1])
	}
}

func TestParseShow(t *testing.T) {
	got := parseShow("Id=a.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=0\nNeedDaemonReload=yes\n\nId=b.socket\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n")
	if len(got) != 2 || !got[0].NeedDaemonReload || got[0].ActiveState != "active" || got[1].LoadState != "not-found" || got[1].MainExe != "" {
		t.Errorf("%+v", got)
	}
}

func FuzzParseShow(f *testing.F) {
	f.Add("Id=a.service\nMainPID=1\n\nId=b\n")
	f.Fuzz(func(t *testing.T, s string) { parseShow(s) })
}
