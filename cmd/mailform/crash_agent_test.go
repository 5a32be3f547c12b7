package main

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"mailform/providers/host/hostsim/quickagent"
)

// quickAgent is the mailformd of worlds that are raised by the hundred, built once.
var quickAgent = sync.OnceValues(func() (agentFile, error) {
	program, err := quickagent.Build(filepath.Join("..", ".."), binaries)
	if err != nil {
		return agentFile{}, err
	}
	b, err := quickagent.Pack(runtime.GOARCH, program)
	if err != nil {
		return agentFile{}, err
	}
	zipped, err := b.Gzip()
	if err != nil {
		return agentFile{}, err
	}
	a := agentFile{Path: program + ".gz", Arch: b.Arch, SHA256: b.SHA256, Size: b.Size}
	return a, os.WriteFile(a.Path, zipped, 0o600)
})
