package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Sizes of the stripped binaries without embedded servers. Passing one means
// that something defeats the linker, usually reflection over methods: find it with
// go build -ldflags=-dumpdep 2>&1 | grep ReflectMethod.
func TestBinarySizes(t *testing.T) {
	for name, limit := range map[string]int64{"mailform": 32 << 20, "mailformd": 16 << 20} {
		info, err := os.Stat(filepath.Join(binaries, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MB", name, float64(info.Size())/1e6)
		if info.Size() > limit {
			t.Errorf("%s has %d bytes, at most %d are expected", name, info.Size(), limit)
		}
	}
}

// What must not get into the binaries, by import path.
func TestBinariesStayLean(t *testing.T) {
	for command, banned := range map[string][]string{
		"mailform/cmd/mailform":  {"alibaba-cloud-sdk-go/services", "cloudflare-go/v6/accounts", "html/template", "mailform/server/store", "mailform/server/smtp"},
		"mailform/cmd/mailformd": {"alibaba-cloud-sdk-go", "cloudflare-go", "go-acme/lego", "hashicorp/hcl", "pebble", "html/template"},
	} {
		out, err := exec.Command("go", "list", "-deps", command).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			for _, b := range banned {
				if strings.Contains(dep, b) {
					t.Errorf("%s depends on %s", command, dep)
				}
			}
		}
	}
}
