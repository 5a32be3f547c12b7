package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mailform/providers/world"
	"mailform/server/account"
)

// canaries are secrets by name, in the forms they could get out in.
type canaries map[string][][]byte

func (c canaries) plant(name, secret string) {
	if len(secret) < 12 {
		panic(name + " is too short to be told from chance")
	}
	quoted, _ := json.Marshal(secret)
	forms := []string{secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret))}
	// Inside a longer text base64 may begin at any of three places; the first and
	// last characters depend on the neighbours.
	for skip := range 3 {
		e := base64.RawStdEncoding.EncodeToString(append(make([]byte, skip), secret...))
		e = e[4 : len(e)-4]
		forms = append(forms, e, strings.NewReplacer("+", "-", "/", "_").Replace(e))
	}
	for _, f := range forms {
		c[name] = append(c[name], []byte(f))
	}
}

// search complains about every secret that stands in data.
func (c canaries) search(t *testing.T, where string, data []byte) {
	t.Helper()
	for name, forms := range c {
		for _, f := range forms {
			if bytes.Contains(data, f) {
				t.Errorf("%s holds %s", where, name)
				break
			}
		}
	}
}

// searchTree looks into every file below dir that wanted says yes to. A server may be at
// work there: when a file has been replaced meanwhile, all are looked at again.
func (c canaries) searchTree(t *testing.T, dir string, wanted func(path string, mode fs.FileMode) bool) (files int) {
	t.Helper()
	for tries := 100; ; tries-- {
		files = 0
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !wanted(path, info.Mode().Perm()) {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			c.search(t, path, data)
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) && tries > 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
}

// TestSecretsStayWhereTheyAre plants secrets wherever a person or a machine
// gives mailform one and looks for them in everything it leaves behind: output
// of every kind, the state directory at every stage, plan files, command lines,
// the dump of a crash, the vendors' logs, and what others on the host may read.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	g := &barrier{}
	const binding, wrongBinding = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W", "Zm91bGVyLUthbmFyaWVudm9nZWwtb2huZS1TdGltbWUtdW5kLVJlY2h0"
	w, s := newShell(t, g, func(c *world.Config) { c.AccountKeys = map[string]string{"canary-key": binding} })
	secrets, bindings := canaries{}, canaries{}
	for name, key := range map[string]string{"the key that binds the CA's account": binding, "a wrong key to bind it": wrongBinding} {
		secrets.plant(name, key)
		bindings.plant(name, key)
		raw, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		secrets.plant(name+", decoded", string(raw))
		bindings.plant(name+", decoded", string(raw))
	}
	secrets.plant("the cloud's secret key", world.AccessKeySecret)
	secrets.plant("the DNS API's token", world.APIToken)
	secrets.plant("the relay's password", "Kanarienvogel & Söhne/42+x")
	secrets.plant("the backup's secret key", "Zeisig-und-Stieglitz-4711")
	hash, err := account.HashPassword("a password for alice")
	if err != nil {
		t.Fatal(err)
	}
	secrets.plant("the hash of alice's password", hash[strings.LastIndexByte(hash, '$')+1:])
	for i, line := range pemLine.FindAllString(string(read(t, w.OperatorKey())), -1) {
		// The first line of a key says only what kind it is, the second has its public half.
		if i > 1 {
			secrets.plant(fmt.Sprintf("line %d of the operator's SSH key", i), line)
		}
	}
	s.env = append(s.env, "GOTRACEBACK=all",
		"MAILFORM_VAR_relay=Kanarienvogel & Söhne/42+x", "MAILFORM_VAR_backup=Zeisig-und-Stieglitz-4711", "MAILFORM_VAR_alice="+hash, "MAILFORM_VAR_eab="+binding)
	spec := `stack "canary" {}
variable "eab" {
  sensitive = true
}
provider "acme" {
  eab {
    kid      = "canary-key"
    hmac_key = var.eab
  }
}
variable "relay" {
  sensitive = true
}
variable "backup" {
  sensitive = true
}
variable "alice" {
  sensitive = true
}
host "mx1" {
  hostname = "mail.example.com"
  instance {}
  ssh {
    from = ["0.0.0.0/0"]
  }
}
domain "example.com" {
  mailbox "alice" {
    password_hash = var.alice
  }
  mailbox "bob" {}
}
server {
  relay {
    host     = "relay.elsewhere.example"
    username = "canary"
    password = var.relay
  }
}
backup {
  endpoint          = "https://127.0.0.1:9"
  bucket            = "canary"
  access_key_id     = "canary"
  secret_access_key = var.backup
}
`
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(s.dir, "mail.hcl"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(spec)

	runs := 0
	try := func(args ...string) (code int) {
		t.Helper()
		stdout, stderr, code := s.run(t, args...)
		runs++
		where := "mailform " + strings.Join(args, " ")
		secrets.search(t, where+": standard output", []byte(stdout))
		secrets.search(t, where+": standard error", []byte(stderr))
		return code
	}
	apply := func(args ...string) {
		t.Helper()
		if code := try(append([]string{"apply"}, args...)...); code != 0 {
			t.Fatalf("apply %v ended with %d", args, code)
		}
	}
	state := func() {
		t.Helper()
		secrets.searchTree(t, s.dir, func(string, fs.FileMode) bool { return true })
		if cache := filepath.Join(filepath.Dir(s.dir), ".cache"); runs > 0 {
			secrets.searchTree(t, cache, func(string, fs.FileMode) bool { return true })
		}
	}
	look := func() {
		for _, args := range []string{
			"validate", "validate --json", "plan", "plan --json --stats", "plan --markdown", "plan --out saved.plan", "plan --destroy",
			"drift", "drift --json", "drift --markdown", "show", "show mailbox/*", "show --json", "status", "status --json", "logs", "logs --json", "mailbox list --json",
			"graph", "graph --format json", "graph --format mermaid", "docs server", "fmt --check --diff",
		} {
			try(strings.Fields(args)...)
		}
		state()
	}
	look()

	// Killed while the cloud has made an instance that it has not answered.
	g.close("RunInstances", true)
	c := s.command("apply", "--auto-approve")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	g.wait(t)
	secrets.search(t, "the command line", read(t, fmt.Sprintf("/proc/%d/cmdline", c.Process.Pid)))
	c.Process.Signal(syscall.SIGQUIT) // a Go program dumps every goroutine's stack
	c.Wait()
	close(g.pass)
	if !strings.Contains(out.String(), "goroutine ") {
		t.Errorf("that was no crash: %s", &out)
	}
	secrets.search(t, "the dump of a crash", out.Bytes())
	state()

	// The CA does not take the key it is given: that is said without it.
	right := s.env
	for _, how := range []string{"apply --auto-approve", "apply --auto-approve --json"} {
		s.env = append(slices.Clone(right), "MAILFORM_VAR_eab="+wrongBinding)
		if code := try(strings.Fields(how)...); code != 9 {
			t.Errorf("%s with a wrong key for the CA's account ended with %d, want 9", how, code)
		}
		state()
	}
	s.env = right
	apply("--auto-approve", "--json")
	born := hostSecrets(t, w, secrets)
	look()

	// Everything that has a secret in it changes, and is applied with plain output.
	write(strings.Replace(strings.Replace(spec, `"canary"
    password`, `"other"
    password`, 1), `mailbox "bob" {}`, `mailbox "bob" {}
  mailbox "carol" {}`, 1))
	look()
	apply("saved.plan")
	born += hostSecrets(t, w, secrets)
	look()
	try("password", "carol@example.com", "--json")
	for _, args := range []string{"plan --var relay=wrong&Kanarienvogel", "drift"} {
		try(strings.Fields(args)...)
	}
	if born < 6 {
		t.Errorf("only %d secrets of the host were found to look for", born)
	}

	// The host's own files, but for those that only root and the service may read.
	public := 0
	for _, root := range w.HostRoots() {
		public += secrets.searchTree(t, root, func(path string, mode fs.FileMode) bool { return mode&0o007 != 0 })
	}
	// The CA's account is bound from here: its key is nothing to a host, whoever may read it.
	for _, root := range w.HostRoots() {
		bindings.searchTree(t, root, func(string, fs.FileMode) bool { return true })
	}
	// What the vendors and the host's system wrote down, and the log of the mail server.
	for _, call := range w.Cloud().Calls() {
		secrets.search(t, "the cloud's log of "+call.Action, []byte(call.Params.Encode()))
	}
	for _, call := range w.DNS().Calls() {
		secrets.search(t, "the log of the DNS API", fmt.Appendf(nil, "%+v", call))
	}
	try("destroy", "--auto-approve")
	state()
	t.Logf("%d secrets in %d outputs, %d public files of the host", len(secrets), runs, public)
}

var pemLine = regexp.MustCompile(`(?m)^[A-Za-z0-9+/=]{40,}$`)

// hostSecrets plants what was born on the simulated hosts: private keys and the
// hashes of passwords. It returns how many are new.
func hostSecrets(t *testing.T, w *world.World, c canaries) (found int) {
	t.Helper()
	plant := func(name, secret string) {
		if c[name] == nil {
			c.plant(name, secret)
			found++
		}
	}
	for _, root := range w.HostRoots() {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			switch filepath.Ext(path) {
			case ".json":
				if filepath.Base(path) != "credentials.json" {
					break
				}
				for i, hash := range regexp.MustCompile(`\$argon2id\$[^"]*`).FindAllString(string(read(t, path)), -1) {
					plant(fmt.Sprintf("hash %d of %s", i, path), hash[strings.LastIndexByte(hash, '$')+1:])
				}
			case ".pem":
				text := string(read(t, path))
				if lines := pemLine.FindAllString(text, -1); strings.Contains(text, "PRIVATE KEY") && len(lines) > 0 {
					line := lines[len(lines)/2]
					plant("the key "+path, line[len(line)/2-16:])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
