package agentbin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestBesideTheProgram(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the test binary serves as an ELF file")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "mailform")
	if _, err := Default(program).Agent(runtime.GOARCH); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("with nothing there: %v", err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "mailformd")); err != nil {
		t.Fatal(err)
	}
	b, err := Default(program).Agent(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := b.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if hex.EncodeToString(sum[:]) != b.SHA256 || int64(len(text)) != b.Size {
		t.Errorf("compressed %d bytes, said %d", len(text), b.Size)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if _, err := Default(program).Agent(other); err == nil || !strings.Contains(err.Error(), "is for linux/"+runtime.GOARCH) {
		t.Errorf("another architecture: %v", err)
	}
}

// What is compressed is what the digest is of, although that happens later.
func TestAnotherProgramSince(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mailformd")
	if err := os.WriteFile(file, text, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := File(file).Agent(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Gzip(); err == nil || !strings.Contains(err.Error(), "another one since") {
		t.Errorf("got %v", err)
	}
}

func TestNotAProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mailformd")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := File(file).Agent("amd64"); err == nil || !strings.Contains(err.Error(), "not a Linux program") {
		t.Errorf("got %v", err)
	}
}
