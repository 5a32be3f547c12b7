package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"mailform/providers/alicloud"
	"mailform/providers/cloudflare"
	"mailform/providers/world"
)

// The recipes of examples/ci are run as they stand, against a simulated world:
// only the folders in them and the secrets are the test's.
func TestRecipes(t *testing.T) {
	shop := newShop(t)
	shop.must(t, "mailform apply --auto-approve mail")

	t.Run("GitHub Actions", func(t *testing.T) { testGitHub(t, shop) })
	t.Run("GitLab CI", func(t *testing.T) { testGitLab(t, shop) })
	t.Run("cron", func(t *testing.T) { testCron(t, shop) })
	t.Run("systemd", func(t *testing.T) { testSystemd(t, shop) })
}

var update = flag.Bool("update", false, "rewrite the policies in examples/ci")

// TestPolicies holds the policies beside the recipes to what the providers say
// that they can send; their own tests hold them to that.
func TestPolicies(t *testing.T) {
	var token strings.Builder
	token.WriteString("# Cloudflare API token\n\nAt dash.cloudflare.com: My Profile, API Tokens, Create Custom Token; limited to the zones of the spec.\n")
	for _, use := range []struct {
		title    string
		readOnly bool
	}{{"To apply, and to renew certificates", false}, {"To look: plan, drift, show, status", true}} {
		fmt.Fprintf(&token, "\n## %s\n\n", use.title)
		for _, p := range cloudflare.Scope(use.readOnly) {
			kind, level, _ := strings.Cut(p.Name, ":")
			fmt.Fprintf(&token, "- Zone · %s · %s", kind, level)
			if p.When != "" {
				fmt.Fprintf(&token, " (only with %s)", p.When)
			}
			token.WriteByte('\n')
		}
	}
	for name, want := range map[string]string{
		"ram-policy-apply.json": alicloud.PolicyJSON(false),
		"ram-policy-plan.json":  alicloud.PolicyJSON(true),
		"ram-policy-host.json":  alicloud.HostPolicyJSON("acme-mail-backup"),
		"cloudflare-token.md":   token.String(),
	} {
		path := filepath.Join("..", "..", "examples", "ci", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := recipe(t, name); got != want {
			t.Errorf("%s is not what the code needs; rewrite it with -update", name)
		}
	}
}

// shop is a checked-out repository with a stack in mail/, beside a simulated world.
type shop struct {
	world   *world.World
	dir     string // the repository
	temp    string
	env     []string
	secrets map[string]string
}

func newShop(t *testing.T) *shop {
	dir := t.TempDir()
	s := &shop{dir: filepath.Join(dir, "repository"), temp: filepath.Join(dir, "temp")}
	for _, d := range []string{s.dir, s.temp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w, err := world.Start(context.Background(), world.Config{Shim: hostshim(), Dir: filepath.Join(dir, "world"), Zones: []string{"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	s.world = w

	// The address the recipes fetch mailform from. The server's binary is inside
	// mailform as make build makes it; here it lies where mailform looks next.
	program := read(t, filepath.Join(binaries, "mailform"))
	files := httptest.NewServer(http.FileServer(http.Dir(binaries)))
	t.Cleanup(files.Close)
	sum := sha256.Sum256(program)
	s.secrets = map[string]string{"MAILFORM_URL": files.URL + "/mailform", "MAILFORM_SHA256": hex.EncodeToString(sum[:])}

	s.env = []string{"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + s.temp, "USER=tester", "NO_PROXY=127.0.0.1"}
	for name, value := range w.Environment() {
		switch name {
		case "MAILFORM_SSH_KEY":
			s.secrets["MAIL_SSH_KEY"] = strings.TrimSuffix(string(read(t, value)), "\n")
		case "CLOUDFLARE_API_TOKEN":
			s.secrets[name] = value
		}
		s.env = append(s.env, name+"="+value)
	}
	s.must(t, "mailform init example.com mail")
	return s
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// run gives a script to bash as CI systems do and returns its output and exit code.
func (s *shop) run(t *testing.T, script string, env ...string) (string, int) {
	t.Helper()
	c := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	c.Dir, c.Env = s.dir, slices.Concat(s.env, env)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatalf("bash: %v", err)
	}
	return string(out), c.ProcessState.ExitCode()
}

func (s *shop) must(t *testing.T, script string, env ...string) string {
	t.Helper()
	out, code := s.run(t, script, env...)
	if code != 0 {
		t.Fatalf("exit code %d of\n%s\n%s", code, script, out)
	}
	return out
}

// policy changes the SPF policy in the spec, so that the world differs from it
// until the returned function has changed it back.
func (s *shop) policy(t *testing.T) (back func()) {
	path := filepath.Join(s.dir, "mail", "mail.hcl")
	before := read(t, path)
	after := strings.Replace(string(before), "domain \"example.com\" {\n", "domain \"example.com\" {\n  spf { all = \"softfail\" }\n", 1)
	if after == string(before) {
		t.Fatal("the starter spec has no domain example.com")
	}
	if err := os.WriteFile(path, []byte(after), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must(t, "mailform fmt mail")
	return func() {
		if err := os.WriteFile(path, before, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func recipe(t *testing.T, name string) string {
	return string(read(t, filepath.Join("..", "..", "examples", "ci", name)))
}

var expression = regexp.MustCompile(`\$\{\{ (?:secrets|vars)\.([A-Z0-9_]+) \}\}`)

func testGitHub(t *testing.T, s *shop) {
	var workflow struct {
		Env  map[string]string
		Jobs map[string]struct {
			Steps []struct {
				Name, Uses, Run, If string
				Env                 map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(recipe(t, "github-actions.yml")), &workflow); err != nil {
		t.Fatal(err)
	}
	// event runs the job as the runner does and returns the summary, the output
	// and the exit code of the step that failed, or 0.
	event := func(t *testing.T, name string) (summary, output string, code int) {
		runner := t.TempDir()
		if err := os.Link(filepath.Join(binaries, "mailformd"), filepath.Join(runner, "mailformd")); err != nil {
			t.Fatal(err)
		}
		file := func(name string) string { return filepath.Join(runner, name) }
		for _, f := range []string{"summary", "env", "path"} {
			if err := os.WriteFile(file(f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		base := []string{"RUNNER_TEMP=" + runner, "GITHUB_STEP_SUMMARY=" + file("summary"), "GITHUB_ENV=" + file("env"), "GITHUB_PATH=" + file("path")}
		settings := func(env map[string]string) (out []string) {
			for name, value := range env {
				known := true
				value = expression.ReplaceAllStringFunc(value, func(e string) string {
					v, ok := s.secrets[expression.FindStringSubmatch(e)[1]]
					known = known && ok
					return v
				})
				if known {
					out = append(out, name+"="+value)
				}
			}
			return out
		}
		for _, step := range workflow.Jobs["mail"].Steps {
			if step.Run == "" || step.If != "" && !strings.Contains(step.If, "github.event_name == '"+name+"'") {
				continue
			}
			env := slices.Concat(base, settings(workflow.Env), settings(step.Env), strings.Fields(string(read(t, file("env")))))
			env = append(env, "PATH="+strings.TrimSpace(string(read(t, file("path"))))+":"+os.Getenv("PATH"))
			out, code := s.run(t, step.Run, env...)
			output += out
			if code != 0 {
				return string(read(t, file("summary"))), output, code
			}
		}
		return string(read(t, file("summary"))), output, 0
	}

	if summary, output, code := event(t, "schedule"); code != 0 || !strings.Contains(summary, "No drift") {
		t.Errorf("a quiet night ended with %d: %s\n%s", code, summary, output)
	}
	back := s.policy(t)
	if summary, output, code := event(t, "pull_request"); code != 0 || !strings.Contains(summary, "dns/example.com/spf") {
		t.Errorf("the plan of a pull request ended with %d: %s\n%s", code, summary, output)
	}
	if summary, output, code := event(t, "schedule"); code != 3 || !strings.Contains(summary, "dns/example.com/spf") {
		t.Errorf("a night with drift ended with %d, expected 3: %s\n%s", code, summary, output)
	}
	if _, output, code := event(t, "push"); code != 0 {
		t.Errorf("applying ended with %d: %s", code, output)
	}
	if _, output, code := event(t, "schedule"); code != 0 {
		t.Errorf("the night after ended with %d: %s", code, output)
	}
	back()
	s.must(t, "mailform apply --auto-approve mail")
}

func testGitLab(t *testing.T, s *shop) {
	type job struct {
		Before []string `yaml:"before_script"`
		Script []string `yaml:"script"`
	}
	var file map[string]yaml.Node
	if err := yaml.Unmarshal([]byte(recipe(t, "gitlab-ci.yml")), &file); err != nil {
		t.Fatal(err)
	}
	part := func(name string) (j job) {
		node := file[name]
		if err := node.Decode(&j); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return j
	}
	before := part("default").Before
	key := filepath.Join(s.temp, "gitlab_ssh_key")
	if err := os.WriteFile(key, []byte(s.secrets["MAIL_SSH_KEY"]+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, ".bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(binaries, "mailformd"), filepath.Join(s.dir, ".bin", "mailformd")); err != nil {
		t.Fatal(err)
	}
	do := func(name string) (string, int) {
		t.Helper()
		script := part(name).Script
		if len(script) == 0 {
			t.Fatalf("there is no job %q", name)
		}
		return s.run(t, strings.Join(slices.Concat(before, script), "\n"),
			"CI_PROJECT_DIR="+s.dir, "MAILFORM_SSH_KEY="+key, "MAILFORM_URL="+s.secrets["MAILFORM_URL"], "MAILFORM_SHA256="+s.secrets["MAILFORM_SHA256"])
	}
	expect := func(name string, want int, text string) {
		t.Helper()
		if out, code := do(name); code != want || !strings.Contains(out, text) {
			t.Errorf("the job %s ended with %d, expected %d and %q:\n%s", name, code, want, text, out)
		}
	}
	called := len(s.world.Cloud().Calls())
	expect("renew", 0, "No changes")
	expect("drift", 0, "No drift")
	// What runs every night needs no more of the cloud than to look.
	permitted := alicloud.Permissions(true)
	for _, call := range s.world.Cloud().Calls()[called:] {
		if name := strings.ToLower(call.Product) + ":" + call.Action; !slices.Contains(permitted, name) {
			t.Errorf("the nightly jobs call %s, which ram-policy-plan.json does not permit", name)
		}
	}
	back := s.policy(t)
	expect("plan", 0, "dns/example.com/spf")
	expect("drift", 3, "dns/example.com/spf")
	expect("apply", 0, "")
	expect("drift", 0, "No drift")
	back()
	s.must(t, "mailform apply --auto-approve mail")
}

// here turns the folders that recipes name into the test's.
func (s *shop) here(text string) string {
	text = strings.ReplaceAll(text, "/etc/mailform.d/env", filepath.Join(s.temp, "env"))
	return strings.ReplaceAll(text, "/srv/mail", filepath.Join(s.dir, "mail"))
}

func testCron(t *testing.T, s *shop) {
	if err := os.WriteFile(filepath.Join(s.temp, "env"), []byte("MAILFORM_CRON=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(recipe(t, "crontab")) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[4] == "*" && !strings.HasPrefix(line, "#") {
			if strings.Contains(line, "%") {
				t.Errorf("cron takes %% for a new line: %s", line)
			}
			commands = append(commands, s.here(line[strings.Index(line, "set -a"):]))
		}
	}
	if len(commands) != 2 {
		t.Fatalf("%d commands in the crontab, expected renewal and drift", len(commands))
	}
	for _, c := range commands {
		if out := s.must(t, c); out != "" {
			t.Errorf("cron would mail although all is well:\n%s", out)
		}
	}
	back := s.policy(t)
	defer back()
	if out, code := s.run(t, commands[1]); code != 3 || !strings.Contains(out, "dns/example.com/spf") {
		t.Errorf("drift under cron ended with %d, expected 3:\n%s", code, out)
	}
}

func testSystemd(t *testing.T, s *shop) {
	dir := filepath.Join("..", "..", "examples", "ci", "systemd")
	units, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(units) != 4 {
		t.Fatalf("units: %q, %v", units, err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(.*)$`)
	copied := t.TempDir()
	var paths []string
	for _, u := range units {
		text := string(read(t, u))
		if m := start.FindStringSubmatch(text); m != nil {
			// systemd splits words but expands no globs.
			words := strings.Fields(s.here(m[1]))
			c := exec.Command(filepath.Join(binaries, words[0]), words[1:]...)
			c.Env, c.Dir = s.env, s.temp
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(u), err, out)
			}
			text = strings.Replace(text, "/usr/local/bin/mailform", filepath.Join(binaries, "mailform"), 1)
		}
		text = strings.ReplaceAll(text, "User=mailform-ops", "User=root")
		path := filepath.Join(copied, filepath.Base(u))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, paths...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "mailform-") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	if err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
