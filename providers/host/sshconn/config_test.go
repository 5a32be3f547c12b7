package sshconn

import (
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// config reads one text as ~/.ssh/config, with other files by their full names.
func config(t testing.TB, text string, others ...map[string]string) *Config {
	t.Helper()
	files := map[string]string{"/home/a/.ssh/config": text}
	for _, m := range others {
		for name, text := range m {
			files[name] = text
		}
	}
	c, err := ReadConfig(memory(files), "/home/a", "/home/a/.ssh/config", "/etc/ssh/ssh_config")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func memory(files map[string]string) Files {
	return Files{
		ReadFile: func(name string) ([]byte, error) {
			text, ok := files[name]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return []byte(text), nil
		},
		Glob: func(pattern string) ([]string, error) {
			var out []string
			for name := range files {
				if ok, err := filepath.Match(pattern, name); err != nil {
					return nil, err
				} else if ok {
					out = append(out, name)
				}
			}
			slices.Sort(out)
			return out, nil
		},
	}
}

func env(c *Config) *Env {
	return &Env{Config: c, Home: "/home/a", User: "alice", Keys: &Keys{}, KnownHosts: []string{"/home/a/.ssh/known_hosts"},
		Getenv: func(name string) string {
			return map[string]string{"SSH_AUTH_SOCK": "/run/agent", "OTHER": "/run/other"}[name]
		}}
}

// The machine of these tests, of which the spec says no user and no port.
var mx1 = Target{Label: "host mx1", Names: []string{"mail.acme.example"}, Address: "203.0.113.7"}

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		target Target
		want   func(*Settings)
	}{
		"nothing":            {"", mx1, func(*Settings) {}},
		"by its name":        {"Host mail.acme.example\n User admin\n Port 2222", mx1, func(s *Settings) { s.User, s.Port = "admin", 2222 }},
		"by its address":     {"Host 203.0.113.*\n\tUser=admin\n", mx1, func(s *Settings) { s.User = "admin" }},
		"by a pattern":       {"host *.ACME.example\n user admin", mx1, func(s *Settings) { s.User = "admin" }},
		"by an alias":        {"Host acme\n HostName mail.acme.example\n User admin", mx1, func(s *Settings) { s.User = "admin" }},
		"another's alias":    {"Host mx1\n HostName mx1.other.example\n User admin", mx1, func(*Settings) {}},
		"the spec's word":    {"Host *\n User admin\n Port 2222", Target{"host mx1", nil, "203.0.113.7", 22, "root", ""}, func(s *Settings) { s.Names = s.Names[:1] }},
		"negated":            {"Host * !mail.acme.example\n User admin", mx1, func(*Settings) {}},
		"the first wins":     {"Host mail.*\n User one\nHost *\n User two\n Port 2200", mx1, func(s *Settings) { s.User, s.Port = "one", 2200 }},
		"before any Host":    {"User admin\nHost elsewhere\n Port 1", mx1, func(s *Settings) { s.User = "admin" }},
		"comments":           {"# User no\n  User admin # said so\n", mx1, func(s *Settings) { s.User = "admin" }},
		"Match all":          {"Host elsewhere\n Port 1\nMatch all\n User admin", mx1, func(s *Settings) { s.User = "admin" }},
		"Match host":         {"Match host mail.acme.example,x\n User admin", mx1, func(s *Settings) { s.User = "admin" }},
		"Match another host": {"Match originalhost x\n User admin", mx1, func(*Settings) {}},
		"Match user":         {"Match user root\n Port 2222\n IdentityFile k", mx1, func(s *Settings) { s.Named = []string{"k"}; s.Identities = s.Named }},
		"Match exec":         {"Match host mail.acme.example exec \"touch /tmp/x\"\n User admin", mx1, func(*Settings) {}},
		"key files": {"IdentityFile ~/.ssh/acme\nHost mail.*\n IdentityFile \"%d/my keys/%r@%h\"\n IdentitiesOnly yes\n CertificateFile ~/c-cert.pub", mx1, func(s *Settings) {
			s.Named = []string{"/home/a/.ssh/acme", "/home/a/my keys/root@203.0.113.7"}
			s.Identities, s.IdentitiesOnly, s.Certificates = s.Named, true, []string{"/home/a/c-cert.pub"}
		}},
		"no agent":          {"IdentityAgent none", mx1, func(s *Settings) { s.Agent = "" }},
		"another agent":     {"IdentityAgent $OTHER", mx1, func(s *Settings) { s.Agent = "/run/other" }},
		"an agent's socket": {"IdentityAgent ~/.agent", mx1, func(s *Settings) { s.Agent = "/home/a/.agent" }},
		"known hosts":       {"UserKnownHostsFile ~/.ssh/k1 /etc/k2", mx1, func(s *Settings) { s.KnownHosts = []string{"/home/a/.ssh/k1", "/etc/k2"} }},
		"never weaker":      {"StrictHostKeyChecking no\nVerifyHostKeyDNS yes\nUserKnownHostsFile none", mx1, func(s *Settings) { s.KnownHosts = nil }},
		"an alias of keys":  {"HostKeyAlias acme", mx1, func(s *Settings) { s.Names = append(s.Names, "acme") }},
		"a command":         {"ProxyCommand cloudflared access ssh --hostname %h # %p", mx1, func(s *Settings) { s.ProxyCommand = "cloudflared access ssh --hostname 203.0.113.7 # 22" }},
		"no command":        {"ProxyCommand none", mx1, func(*Settings) {}},
		"the first way":     {"ProxyCommand nc %h %p\nProxyJump b", mx1, func(s *Settings) { s.ProxyCommand = "nc 203.0.113.7 22" }},
		"no jump":           {"Host mail.*\n ProxyJump none\nHost *\n ProxyJump b", mx1, func(*Settings) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := Settings{Label: "host mx1", Names: []string{"203.0.113.7", "mail.acme.example"}, Host: "203.0.113.7", Port: 22, User: "root",
				Identities: []string{"/home/a/.ssh/id_ed25519", "/home/a/.ssh/id_ecdsa", "/home/a/.ssh/id_rsa"},
				Agent:      "/run/agent", KnownHosts: []string{"/home/a/.ssh/known_hosts"}}
			c.want(&want)
			got, err := env(config(t, c.config)).Settings(c.target)
			if err != nil || !same(got, want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
			}
		})
	}
}

func same(a, b Settings) bool {
	return reflect.DeepEqual(normal(a), normal(b))
}

// normal makes an empty list none.
func normal(s Settings) Settings {
	for _, l := range []*[]string{&s.Named, &s.Certificates, &s.KnownHosts} {
		if len(*l) == 0 {
			*l = nil
		}
	}
	return s
}

func TestJumps(t *testing.T) {
	ways := func(c string) []string {
		s, err := env(config(t, c)).Settings(mx1)
		if err != nil {
			return []string{err.Error()}
		}
		var out []string
		for _, j := range s.Jumps {
			if len(j.Jumps) > 0 || j.hostKey != "" {
				t.Errorf("%+v", j)
			}
			out = append(out, j.User+"@"+j.Addr())
		}
		return out
	}
	for c, want := range map[string][]string{
		"ProxyJump bastion":                              {"the jump hosts lead in a circle: bastion → bastion"}, // it would apply to the bastion as well
		"Host mail.*\n ProxyJump bastion":                {"alice@bastion:22"},
		"Host mail.*\n ProxyJump ops@[2001:db8::1]:2222": {"ops@[2001:db8::1]:2222"},
		"Host mail.*\n ProxyJump ssh://ops@b:2222":       {"ops@b:2222"},
		"Host mail.*\n ProxyJump a,b@c,d:1":              {"alice@a:22", "b@c:22", "alice@d:1"},
		"Host mail.*\n ProxyJump b\nHost b\n HostName b.example\n User ops\n Port 2222\n ProxyJump a": {"alice@a:22", "ops@b.example:2222"},
		"Host mail.*\n ProxyJump a,b\nHost a\n ProxyJump z\nHost b\n ProxyJump y":                     {"alice@z:22", "alice@a:22", "alice@b:22"},
		"Host mail.*\n ProxyJump b\nHost b\n ProxyJump c\nHost c\n ProxyJump b":                       {"the jump hosts lead in a circle: b → c → b"},
		"Host mail.*\n ProxyJump a,b,c,d,e,f,g,h,i":                                                   {"the way to host mx1 has more than 8 jump hosts"},
		"Host mail.*\n ProxyJump b:0":                                                                 {`the jump host "b:0" has no port that is one`},
		"Host mail.*\n ProxyJump x,\n":                                                                {`"" is no jump host`},
	} {
		if got := ways(c); !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", c, got, want)
		}
	}
}

func TestInclude(t *testing.T) {
	c := config(t, "Host mail.*\n Include conf.d/*.conf\n Port 2222\nInclude ~/more /etc/absent\n", map[string]string{
		"/home/a/.ssh/conf.d/1.conf":   "User one\nHost elsewhere\n Port 1\n",
		"/home/a/.ssh/conf.d/2.conf":   "User two\nHostKeyAlias acme\n",
		"/home/a/more":                 "IdentitiesOnly yes\n",
		"/etc/ssh/ssh_config":          "Include ssh_config.d/*.conf\nHost *\n Port 3\n User last\n",
		"/etc/ssh/ssh_config.d/a":      "User never\n",
		"/etc/ssh/ssh_config.d/a.conf": "IdentityAgent none\n",
	})
	s, err := env(c).Settings(mx1)
	if err != nil || s.User != "one" || s.Port != 2222 || !s.IdentitiesOnly || !slices.Contains(s.Names, "acme") || s.Agent != "" {
		t.Errorf("%v %+v", err, s)
	}
	// What is included below a Host is about that host only.
	s, err = env(c).Settings(Target{Address: "198.51.100.1"})
	if err != nil || s.User != "last" || s.Port != 3 || s.IdentitiesOnly {
		t.Errorf("%v %+v", err, s)
	}
	loop := memory(map[string]string{"/h/.ssh/config": "Include config\n"})
	if _, err := ReadConfig(loop, "/h", "/h/.ssh/config"); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("a file that includes itself: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	_, err := ReadConfig(memory(map[string]string{"/h/.ssh/config": "User root\nIdentityFile \"open\n"}), "/h", "/h/.ssh/config")
	if err == nil || err.Error() != "/h/.ssh/config:2: a quote is not closed" {
		t.Error(err)
	}
	for _, bad := range []string{"IdentityFile %z", "IdentityFile ${UNSET}", "UserKnownHostsFile %", "ProxyCommand x ${"} {
		if _, err := env(config(t, bad)).Settings(mx1); err == nil || !strings.Contains(err.Error(), "host mx1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	c := config(t, "Match exec true\n User x\nMatch host a localuser b\n User y")
	if len(c.Notes) != 2 || !strings.Contains(c.Notes[0], "config:1: Match exec") || !strings.Contains(c.Notes[1], "localuser") {
		t.Errorf("%q", c.Notes)
	}
}

func TestKeyVariableGoesFirst(t *testing.T) {
	e := env(config(t, "IdentityFile ~/.ssh/acme\nIdentitiesOnly yes"))
	e.Key = "~/ci"
	if s, err := e.Settings(mx1); err != nil || !slices.Equal(s.Named, []string{"/home/a/ci"}) || s.IdentitiesOnly {
		t.Errorf("%v %+v", err, s)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("Host a b !c*\n User \"x y\"\\\\ \nMatch all\nInclude *\n")
	f.Add("Port=22\nProxyJump a@b:1,c\nIdentityFile ~/%d${HOME}'x'\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ReadConfig(memory(map[string]string{"/home/a/.ssh/config": text, "/home/a/.ssh/other": text}), "/home/a", "/home/a/.ssh/config")
		if err != nil {
			return
		}
		s, err := env(c).Settings(mx1)
		if err == nil && (s.Host != mx1.Address || s.Port < 1 || s.Port > 65535 || len(s.Jumps) > 2*maxJumps) {
			t.Errorf("%+v", s)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("***a", "ba")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := matchPattern(pattern, name)
		if len(pattern) < 12 && len(name) < 12 && got != slowMatch(pattern, name) {
			t.Errorf("%q %q: %v", pattern, name, got)
		}
	})
}

func slowMatch(p, n string) bool {
	switch {
	case p == "":
		return n == ""
	case p[0] == '*':
		return slowMatch(p[1:], n) || n != "" && slowMatch(p, n[1:])
	}
	return n != "" && (p[0] == '?' || p[0] == n[0]) && slowMatch(p[1:], n[1:])
}
