package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
)

// What follows makes mailformd hash passwords cheaply: thousands are made here, and
// what their hashes cost protects nobody.
const hashing = "server/account/phc.go"

var (
	costly = regexp.MustCompile(`hashTime += \d+\n\thashMemory += [^/\n]*`)
	cheap  = []byte("hashTime = 1\n\thashMemory = 8")
)

// buildAgent builds mailformd with cheap hashes, and packs it.
func buildAgent(dir string) (agentFile, error) {
	source, err := filepath.Abs(filepath.Join("..", "..", hashing))
	if err != nil {
		return agentFile{}, err
	}
	code, err := os.ReadFile(source)
	if err != nil {
		return agentFile{}, err
	}
	if len(costly.FindAll(code, -1)) != 1 {
		return agentFile{}, fmt.Errorf("%s is not as this test knows it: %s is not there once", hashing, costly)
	}
	changed := filepath.Join(dir, "phc.go")
	if err := os.WriteFile(changed, costly.ReplaceAllLiteral(code, cheap), 0o600); err != nil {
		return agentFile{}, err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{source: changed}}
	list, err := json.Marshal(overlay)
	if err != nil {
		return agentFile{}, err
	}
	listFile, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mailformd")
	if err := os.WriteFile(listFile, list, 0o600); err != nil {
		return agentFile{}, err
	}
	build := exec.Command("go", "build", "-overlay", listFile, "-ldflags", "-s -w", "-o", program, "mailform/cmd/mailformd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return agentFile{}, fmt.Errorf("build mailformd: %w\n%s", err, said)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return agentFile{}, err
	}
	sum := sha256.Sum256(text)
	var zipped bytes.Buffer
	z, err := gzip.NewWriterLevel(&zipped, gzip.NoCompression) // it is unpacked hundreds of times
	if err != nil {
		return agentFile{}, err
	}
	if _, err := z.Write(text); err != nil {
		return agentFile{}, err
	}
	if err := z.Close(); err != nil {
		return agentFile{}, err
	}
	a := agentFile{Path: program + ".gz", Arch: runtime.GOARCH, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text))}
	return a, os.WriteFile(a.Path, zipped.Bytes(), 0o600)
}
