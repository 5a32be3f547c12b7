package sshconn

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Target is a machine to log in to.
type Target struct {
	Label   string   // for people: "host mx1"
	Names   []string // by which the person's ssh may know it, beside its address: "mail.acme.example"
	Address string   // where it is; a configuration file does not change it
	Port    int      // 0: what the configuration says
	User    string   // "": what the configuration says
	// HostKey is what the machine must show: fingerprints "SHA256:…", separated by
	// blanks, or a public key line. "" is what known_hosts says.
	HostKey string
}

// Settings are how one machine is reached.
type Settings struct {
	Label string   // for people
	Names []string // in known_hosts: the name or address that is dialled comes first
	Host  string   // name or address to dial
	Port  int
	User  string

	Identities     []string // key files, in order; a missing one is no error
	Named          []string // those of Identities that somebody has named
	Certificates   []string // certificate files beside "<identity>-cert.pub"
	IdentitiesOnly bool     // of the agent's keys only those of Identities are offered
	Agent          string   // the agent's socket; "" for none
	KnownHosts     []string // files; a key that a person has confirmed goes into the first
	ProxyCommand   string   // a command whose input and output are the connection; "" for none
	Jumps          []Settings

	hostKey string
}

// Addr is host:port.
func (s Settings) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

func (s Settings) String() string {
	return fmt.Sprintf("%s (ssh %s@%s)", s.Label, s.User, s.Addr())
}

// maxJumps bounds the way to a machine.
const maxJumps = 8

// defaultIdentities are the files that are tried when none is named.
var defaultIdentities = [...]string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}

// Settings finds out how a target is reached.
func (e *Env) Settings(t Target) (Settings, error) {
	names := []string{t.Address}
	for _, n := range t.Names {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	known := slices.Clone(names)
	names = append(names, e.Config.aliases(names)...)
	q := query{names: names, user: t.User}
	s := Settings{Label: t.Label, Names: known, Host: t.Address, Port: t.Port, User: t.User, hostKey: t.HostKey}
	if s.Port == 0 {
		s.Port = e.port(q)
	}
	if s.User == "" {
		if s.User = e.Config.first(q, "user"); s.User == "" {
			s.User = "root"
		}
	}
	q.user = s.User
	return e.complete(s, q, nil)
}

func (e *Env) port(q query) int {
	if n, err := strconv.ParseUint(e.Config.first(q, "port"), 10, 16); err == nil && n > 0 {
		return int(n)
	}
	return 22
}

// complete adds what does not depend on who names the machine. via are the jump
// hosts that are being resolved.
func (e *Env) complete(s Settings, q query, via []string) (Settings, error) {
	c := e.Config
	if alias := c.first(q, "hostkeyalias"); alias != "" && !slices.Contains(s.Names, alias) {
		s.Names = append(s.Names, alias)
	}
	expand := func(text string) (string, error) { return e.expand(text, s, q.names[0]) }
	for _, name := range c.every(q, "identityfile") {
		if name == "none" {
			s.Named = nil
			continue
		}
		name, err := expand(name)
		if err != nil {
			return s, fmt.Errorf("IdentityFile of %s: %w", s.Label, err)
		}
		s.Named = append(s.Named, tilde(e.Home, name))
	}
	s.IdentitiesOnly = strings.EqualFold(c.first(q, "identitiesonly"), "yes")
	if e.Key != "" {
		s.Named, s.IdentitiesOnly = []string{tilde(e.Home, e.Key)}, false
	}
	s.Identities = s.Named
	if len(s.Identities) == 0 && e.Home != "" {
		for _, name := range defaultIdentities {
			s.Identities = append(s.Identities, tilde(e.Home, name))
		}
	}
	for _, name := range c.every(q, "certificatefile") {
		name, err := expand(name)
		if err != nil {
			return s, fmt.Errorf("CertificateFile of %s: %w", s.Label, err)
		}
		s.Certificates = append(s.Certificates, tilde(e.Home, name))
	}
	s.Agent = e.getenv("SSH_AUTH_SOCK")
	switch agent := c.first(q, "identityagent"); {
	case agent == "" || agent == "SSH_AUTH_SOCK":
	case agent == "none":
		s.Agent = ""
	case strings.HasPrefix(agent, "$"):
		s.Agent = e.getenv(strings.Trim(agent[1:], "{}"))
	default:
		agent, err := expand(agent)
		if err != nil {
			return s, fmt.Errorf("IdentityAgent of %s: %w", s.Label, err)
		}
		s.Agent = tilde(e.Home, agent)
	}
	s.KnownHosts = slices.Clone(e.KnownHosts)
	if files := c.firstList(q, "userknownhostsfile"); len(files) > 0 {
		s.KnownHosts = nil
		for _, name := range files {
			if name == "none" {
				continue
			}
			name, err := expand(name)
			if err != nil {
				return s, fmt.Errorf("UserKnownHostsFile of %s: %w", s.Label, err)
			}
			s.KnownHosts = append(s.KnownHosts, tilde(e.Home, name))
		}
	}
	s.KnownHosts = append(s.KnownHosts, e.GlobalKnownHosts...)
	return e.way(s, q, via)
}

// way finds the jump hosts or the command that lead to a machine. As in ssh,
// what comes first of the two wins.
func (e *Env) way(s Settings, q query, via []string) (Settings, error) {
	jump, command := e.Config.first(q, "proxyjump"), e.Config.first(q, "proxycommand")
	if jump != "" && command != "" && e.Config.before(q, "proxycommand", "proxyjump") {
		jump = ""
	}
	switch {
	case jump != "" && !strings.EqualFold(jump, "none"):
		hops := strings.Split(jump, ",")
		if len(via)+len(hops) > maxJumps {
			return s, fmt.Errorf("the way to %s has more than %d jump hosts", s.Label, maxJumps)
		}
		for i, text := range hops {
			// Only the first of several has a way of its own; the rest are reached through it.
			hop, err := e.jump(strings.TrimSpace(text), via, i == 0)
			if err != nil {
				return s, err
			}
			s.Jumps = append(append(s.Jumps, hop.Jumps...), hop)
			s.Jumps[len(s.Jumps)-1].Jumps = nil
		}
	case jump == "" && command != "" && !strings.EqualFold(command, "none"):
		command, err := e.expand(command, s, q.names[0])
		if err != nil {
			return s, fmt.Errorf("ProxyCommand of %s: %w", s.Label, err)
		}
		s.ProxyCommand = command
	}
	return s, nil
}

// jump resolves one jump host: [user@]host[:port] or ssh://[user@]host[:port].
func (e *Env) jump(text string, via []string, own bool) (Settings, error) {
	name := strings.TrimPrefix(text, "ssh://")
	user := ""
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		user, name = name[:i], name[i+1:]
	}
	port := 0
	if host, p, err := net.SplitHostPort(name); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return Settings{}, fmt.Errorf("the jump host %q has no port that is one", text)
		}
		name, port = host, int(n)
	}
	name = strings.Trim(name, "[]")
	if name == "" || strings.ContainsAny(name, " \t/") {
		return Settings{}, fmt.Errorf("%q is no jump host", text)
	}
	if slices.Contains(via, name) {
		return Settings{}, fmt.Errorf("the jump hosts lead in a circle: %s", strings.Join(append(via, name), " → "))
	}
	q := query{names: []string{name}, user: user}
	s := Settings{Label: "jump host " + name, Host: name, Port: port, User: user}
	if host := e.Config.first(q, "hostname"); host != "" {
		s.Host = strings.ReplaceAll(strings.ReplaceAll(host, "%h", name), "%%", "%")
	}
	s.Names = []string{s.Host}
	if s.Port == 0 {
		s.Port = e.port(q)
	}
	if s.User == "" {
		if s.User = e.Config.first(q, "user"); s.User == "" {
			s.User = e.User
		}
	}
	if s.User == "" {
		return s, fmt.Errorf("nothing says which user logs in to the jump host %s", name)
	}
	q.user = s.User
	s, err := e.complete(s, q, append(slices.Clip(via), name))
	if !own {
		s.Jumps, s.ProxyCommand = nil, ""
	}
	return s, err
}

// before reports whether the first line of one keyword that counts comes before
// that of another.
func (c *Config) before(q query, one, other string) bool {
	for _, l := range c.lines {
		if (l.keyword == one || l.keyword == other) && l.holds(q) {
			return l.keyword == one
		}
	}
	return false
}

// expand replaces the tokens of ssh_config(5), and ${NAME} by the environment.
func (e *Env) expand(text string, s Settings, original string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if strings.HasPrefix(text[i:], "${") {
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return "", fmt.Errorf("%q: a brace is not closed", text)
			}
			value := e.getenv(text[i+2 : i+end])
			if value == "" {
				return "", fmt.Errorf("%q: %s is not set", text, text[i+2:i+end])
			}
			out.WriteString(value)
			i += end
			continue
		}
		if text[i] != '%' {
			out.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", fmt.Errorf("%q ends in a single %%", text)
		}
		switch text[i] {
		case '%':
			out.WriteByte('%')
		case 'd':
			out.WriteString(e.Home)
		case 'h':
			out.WriteString(s.Host)
		case 'n', 'k':
			out.WriteString(original)
		case 'p':
			out.WriteString(strconv.Itoa(s.Port))
		case 'r':
			out.WriteString(s.User)
		case 'u':
			out.WriteString(e.User)
		default:
			return "", fmt.Errorf("%q: %%%c is not supported", text, text[i])
		}
	}
	return out.String(), nil
}
