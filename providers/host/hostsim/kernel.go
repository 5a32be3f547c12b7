package hostsim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What a kernel and systemd-sysctl do at boot, as far as mailform looks at it.

// parameters are the kernel's own values.
var parameters = map[string]string{
	"net.core.somaxconn": "4096", "net.ipv4.tcp_max_syn_backlog": "512", "net.ipv4.tcp_syncookies": "1",
}

func (h *Host) bootKernel() error {
	values := map[string]string{}
	for name, value := range parameters {
		values[name] = value
	}
	files, err := filepath.Glob(h.path("/etc/sysctl.d/*.conf"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name, value, ok := strings.Cut(line, "=")
			if name = strings.TrimSpace(name); ok && values[name] != "" {
				values[name] = strings.TrimSpace(value)
			}
		}
	}
	for name, value := range values {
		path := h.path("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}
