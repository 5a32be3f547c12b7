package agent

import (
	"os"
	"path/filepath"
	"testing"

	"mailform/server/manifest"
)

func TestResources(t *testing.T) {
	root := t.TempDir()
	a := &Agent{Config: Config{Layout: manifest.Layout{Root: root}}}
	if m, up := a.memory(), a.upSeconds(); m != nil || up != 0 {
		t.Errorf("without /proc: %v, %d", m, up)
	}
	for name, text := range map[string]string{
		"proc/meminfo": "MemTotal:        2048 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\nHugePages_Total: 0\n", "proc/uptime": "93784.12 1.00\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if m := a.memory(); m == nil || *m != (manifest.Memory{Bytes: 2 << 20, AvailableBytes: 1 << 20}) {
		t.Errorf("memory %+v", m)
	}
	if up := a.upSeconds(); up != 93784 {
		t.Errorf("up for %d s", up)
	}
	disks := a.diskSpace()
	if len(disks) != 1 || disks[0].What != "system" || disks[0].Bytes <= 0 || disks[0].FreeBytes < 0 || disks[0].FreeBytes > disks[0].Bytes {
		t.Errorf("disks %+v", disks)
	}
}

func FuzzMeminfo(f *testing.F) {
	f.Add("MemTotal: 1 kB\nMemAvailable: -1 kB\n")
	f.Add("MemTotal: 99999999999999999999 kB")
	f.Fuzz(func(t *testing.T, text string) {
		if m := parseMeminfo(text); m != nil && (m.Bytes <= 0 || m.AvailableBytes < 0) {
			t.Errorf("%q is %+v", text, m)
		}
	})
}
