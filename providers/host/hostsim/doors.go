package hostsim

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Who may reach the machine: its SSH server reads sshd_config.d when it is
// reloaded, and a table that nft has loaded lets in only what it says.

// sshKeywords are those that sshd -t knows.
var sshKeywords = []string{"include", "port", "passwordauthentication", "kbdinteractiveauthentication", "permitrootlogin"}

// sshdConfig reads the SSH server's configuration: the first value of each keyword counts.
func (h *Host) sshdConfig() (map[string]string, error) {
	values := map[string]string{}
	files, err := filepath.Glob(h.path("/etc/ssh/sshd_config.d/*.conf"))
	if err != nil {
		return nil, err
	}
	for _, f := range append(files, h.path("/etc/ssh/sshd_config")) {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			words := strings.Fields(line)
			if len(words) == 0 || strings.HasPrefix(words[0], "#") {
				continue
			}
			key := strings.ToLower(words[0])
			if !slices.Contains(sshKeywords, key) || len(words) < 2 {
				return nil, fmt.Errorf("%s: Bad configuration option: %s", filepath.Base(f), words[0])
			}
			if _, set := values[key]; !set {
				values[key] = words[1]
			}
		}
	}
	return values, nil
}

// readPort makes the SSH server listen where its configuration says.
func (s *sshServer) readPort() error {
	values, err := s.host.sshdConfig()
	if err != nil {
		return err
	}
	port := s.host.init.sshPort
	if text := values["port"]; text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port = port
	return nil
}

func (s *sshServer) listensOn(port int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port == port
}

// sshd is sshd -t.
func (s *supervisor) sshd(args []string) reply {
	if len(args) != 1 || args[0] != "-t" {
		return failed("sshd: only -t is simulated")
	}
	if _, err := s.host.sshdConfig(); err != nil {
		return failed("%v", err)
	}
	return reply{}
}

// tableFile is what nft has loaded. It is gone after a boot.
func (h *Host) tableFile() string { return h.path("/run/nft-inet-mailform") }

// BannedFile holds who is banned, an address and seconds a line, while the table of
// bans is loaded. It is gone after a boot.
func (h *Host) BannedFile() string { return h.path("/run/nft-inet-mailform_bans") }

// bans carries out what is needed of nft(8) for the table of bans.
func (s *supervisor) bans(args []string) reply {
	file := s.host.BannedFile()
	b, err := os.ReadFile(file)
	if err != nil {
		return failed("Error: No such file or directory\n%s", strings.Join(args, " "))
	}
	switch {
	case args[0] == "delete" && args[1] == "table":
		err = os.Remove(file)
	case args[0] == "delete":
		client := strings.Trim(args[len(args)-1], "{ }")
		var left strings.Builder
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, client+" ") {
				left.WriteString(line)
			}
		}
		err = os.WriteFile(file, []byte(left.String()), 0o600)
	case args[0] == "-j":
		var sets [2][]string
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			i := strings.Count(f[0], ":")
			sets[min(i, 1)] = append(sets[min(i, 1)], fmt.Sprintf(`{"elem": {"val": %q, "timeout": 86400, "expires": %s}}`, f[0], f[1]))
		}
		return reply{Stdout: fmt.Sprintf(`{"nftables": [{"set": {"name": "banned4", "elem": [%s]}}, {"set": {"name": "banned6", "elem": [%s]}}]}`, strings.Join(sets[0], ", "), strings.Join(sets[1], ", "))}
	}
	if err != nil {
		return failed("%v", err)
	}
	return reply{}
}

// nft carries out what is needed of nft(8), for two tables.
func (s *supervisor) nft(args []string) reply {
	if slices.Contains(args, "mailform_bans") {
		return s.bans(args)
	}
	switch strings.Join(args[:min(len(args), 4)], " ") {
	case "list table inet mailform":
		b, err := os.ReadFile(s.host.tableFile())
		if err != nil {
			return failed("Error: No such file or directory\nlist table inet mailform")
		}
		return reply{Stdout: string(b)}
	case "delete table inet mailform":
		if err := os.Remove(s.host.tableFile()); err != nil {
			return failed("Error: No such file or directory\ndelete table inet mailform")
		}
		return reply{}
	}
	if len(args) != 2 || args[0] != "-f" {
		return failed("nft: %q is not simulated", args)
	}
	b, err := os.ReadFile(s.inRoot(args[1]))
	if err != nil {
		return failed("internal:0:0-0: Error: Could not open file %q", args[1])
	}
	if !strings.Contains(string(b), "\ndelete table inet mailform\n") || strings.Contains(string(b), "flush ruleset") {
		return failed("%s: Error: it adds to what is there, or flushes what others made", args[1])
	}
	if err := os.WriteFile(s.host.tableFile(), b, 0o600); err != nil {
		return failed("%v", err)
	}
	if strings.Contains(string(b), "\nadd table inet mailform_bans\n") {
		f, err := os.OpenFile(s.host.BannedFile(), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return failed("%v", err)
		}
		f.Close()
	}
	return reply{}
}

// letsIn finds the rules that accept something from outside.
var letsIn = regexp.MustCompile(`(?m)^\s*ip6? saddr \{ ([^}]*) \} tcp dport (\d+)(?:-(\d+))? accept`)

// admits reports whether the machine's own firewall lets Config.Client connect to a port.
func (h *Host) admits(port int) bool {
	b, err := os.ReadFile(h.tableFile())
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	for _, m := range letsIn.FindAllStringSubmatch(string(b), -1) {
		from, _ := strconv.Atoi(m[2])
		to := from
		if m[3] != "" {
			to, _ = strconv.Atoi(m[3])
		}
		if port < from || port > to {
			continue
		}
		for text := range strings.SplitSeq(m[1], ", ") {
			p, err := netip.ParsePrefix(text)
			if err == nil && (!h.cfg.Client.IsValid() || p.Contains(h.cfg.Client)) {
				return true
			}
		}
	}
	return false
}
