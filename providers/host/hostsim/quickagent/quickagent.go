// Package quickagent builds the mailformd of tests that make hosts by the thousand.
// It is the real one, but that the secrets it makes, which protect nobody there, cost
// little to make. It imports agentbin.
package quickagent

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
	"strings"
	"sync"

	"mailform/providers/host/agentbin"
)

// cheaper are the places in mailformd's code where secrets are made at a cost, and what
// stands there instead.
var cheaper = []struct {
	file string // from the module's root
	what *regexp.Regexp
	by   string
}{
	{"server/account/phc.go", regexp.MustCompile(`hashTime += \d+\n\thashMemory += [^/\n]*`), "hashTime = 1\n\thashMemory = 8"},
	{"server/account/keys.go", regexp.MustCompile(`scramIterations = 50_000`), "scramIterations = 4096"},
	// Four primes are found several times faster than two that are twice as long.
	{"server/agent/keys.go", regexp.MustCompile(`rsa\.GenerateKey\(rand, 2048\)`), "rsa.GenerateMultiPrimeKey(rand, 4, 2048)"},
}

// Build builds it from the module whose root that is, as a file in dir.
func Build(root, dir string) (program string, err error) {
	if root, err = filepath.Abs(root); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, c := range cheaper {
		source := filepath.Join(root, c.file)
		code, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if len(c.what.FindAll(code, -1)) != 1 {
			return "", fmt.Errorf("%s is not as it is known here: %s is not there once", c.file, c.what)
		}
		replace[source] = filepath.Join(dir, "quick-"+strings.ReplaceAll(c.file, "/", "-"))
		if err := os.WriteFile(replace[source], c.what.ReplaceAllLiteral(code, []byte(c.by)), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(struct{ Replace map[string]string }{replace})
	if err != nil {
		return "", err
	}
	listFile := filepath.Join(dir, "quick-overlay.json")
	if err := os.WriteFile(listFile, list, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "quick-mailformd")
	build := exec.Command("go", "build", "-overlay", listFile, "-ldflags", "-s -w", "-o", program, "mailform/cmd/mailformd")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mailformd: %w\n%s", err, said)
	}
	return program, nil
}

// Pack gives a program for arch as it is uploaded, but without making it smaller: to
// compress and unpack it takes longer than to send it to this machine.
func Pack(arch, program string) (agentbin.Binary, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return agentbin.Binary{}, err
	}
	sum := sha256.Sum256(text)
	var zipped bytes.Buffer
	z, err := gzip.NewWriterLevel(&zipped, gzip.NoCompression)
	if err != nil {
		return agentbin.Binary{}, err
	}
	if _, err := z.Write(text); err != nil {
		return agentbin.Binary{}, err
	}
	if err := z.Close(); err != nil {
		return agentbin.Binary{}, err
	}
	return agentbin.Binary{
		Arch: arch, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text)),
		Gzip: func() ([]byte, error) { return zipped.Bytes(), nil },
	}, nil
}

// Source gives one program, packed when it is asked for first.
func Source(program string) agentbin.Source {
	return &source{program: program, packed: map[string]agentbin.Binary{}}
}

type source struct {
	program string
	mu      sync.Mutex
	packed  map[string]agentbin.Binary // by architecture
}

func (s *source) Agent(arch string) (agentbin.Binary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.packed[arch]
	if !ok {
		var err error
		if b, err = Pack(arch, s.program); err != nil {
			return b, err
		}
		s.packed[arch] = b
	}
	return b, nil
}
