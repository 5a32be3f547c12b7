package agent

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"mailform/server/manifest"
)

// diskSpace is what is free on the system's file system and, when the mail has one
// of its own, on that. What cannot be found out is left out.
func (a *Agent) diskSpace() []manifest.DiskSpace {
	var out []manifest.DiskSpace
	var seen []uint64
	for _, d := range []struct{ what, dir string }{{"system", a.Layout.Inside("/")}, {"mail", a.Layout.StateDir()}} {
		var st syscall.Stat_t
		var fs syscall.Statfs_t
		if syscall.Stat(d.dir, &st) != nil || syscall.Statfs(d.dir, &fs) != nil || len(seen) > 0 && seen[0] == uint64(st.Dev) {
			continue
		}
		seen = append(seen, uint64(st.Dev))
		out = append(out, manifest.DiskSpace{What: d.what, Bytes: int64(fs.Blocks) * int64(fs.Bsize), FreeBytes: int64(fs.Bavail) * int64(fs.Bsize)})
	}
	return out
}

// memory reads /proc/meminfo, proc_meminfo(5); nil where there is none.
func (a *Agent) memory() *manifest.Memory {
	b, err := os.ReadFile(a.Layout.Inside("/proc/meminfo"))
	if err != nil {
		return nil
	}
	return parseMeminfo(string(b))
}

func parseMeminfo(text string) *manifest.Memory {
	var m manifest.Memory
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 40)
		if err != nil || n < 0 {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			m.Bytes = n << 10
		case "MemAvailable:":
			m.AvailableBytes = n << 10
		}
	}
	if m.Bytes == 0 {
		return nil
	}
	return &m
}

// upSeconds reads /proc/uptime, 0 where there is none.
func (a *Agent) upSeconds() int64 {
	b, err := os.ReadFile(a.Layout.Inside("/proc/uptime"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), ".")
	n, err := strconv.ParseInt(first, 10, 40)
	if err != nil {
		return 0
	}
	return max(0, n)
}
