package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mailform/plan"
	"mailform/server/manifest"
)

// paths are a real machine's; what is sent over SSH names no other.
var paths = manifest.Layout{Root: "/"}

func newLineScanner(r io.Reader) *bufio.Scanner {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	return sc
}

// quote makes a word of a command line.
func quote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-=", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func commandLine(words ...string) string {
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// systemdVersion asks the service manager that runs for its version.
func systemdVersion() []string { return []string{"systemctl", "show", "--property=Version"} }

// onlyReads reports whether a command leaves the machine as it is.
func onlyReads(command string) bool {
	switch command {
	case commandLine("uname", "-sm"), commandLine("sha256sum", paths.Binary()), commandLine(systemdVersion()...),
		commandLine(paths.Binary(), "observe"), commandLine(paths.Binary(), "status", "--json"), commandLine(paths.Binary(), "read-logs"),
		commandLine(paths.Binary(), "bans", "--json"):
		return true
	}
	return false
}

// run runs a command on a host as root. stdin, when given, is made anew for
// each try. A connection that turns out to be broken before the command was
// sent is made once more; one that breaks later leaves the outcome unknown.
func (p *Provider) run(ctx context.Context, t target, command string, stdin func() io.Reader, lines func([]byte, io.Writer) error) (outcome, error) {
	if p.ReadOnly && !onlyReads(command) {
		return outcome{}, &plan.Error{Class: plan.ErrBlocked, Code: "MF5426", Step: "run a command on " + t.String(), Sent: command,
			Got: "this mailform only reads", Fix: "this is a defect of mailform, please report it"}
	}
	for again := false; ; again = true {
		wait := atOnce
		if t.created {
			wait = forInstance
		}
		c, err := p.sessions.get(ctx, t, wait, nil)
		if err != nil {
			return outcome{}, err
		}
		var in io.Reader
		if stdin != nil {
			in = stdin()
		}
		out, err := c.exec(ctx, command, in, lines)
		switch {
		case err == nil || ctx.Err() != nil:
			return out, err
		case errors.Is(err, errNotSent) && !again:
			c.Close()
			<-c.Gone()
			continue
		}
		class := plan.ErrAmbiguous
		if errors.Is(err, errNotSent) {
			class = plan.ErrTransient
		} else {
			c.Close()
		}
		return out, &plan.Error{
			Class: class, Code: "MF5408", Step: "run a command on " + t.String(), Sent: command, Err: err,
			Fix: "Run the same command again: it continues where this one ended.",
		}
	}
}

// tool runs a command of the machine's own, which is expected to succeed.
func (p *Provider) tool(ctx context.Context, t target, step string, stdin func() io.Reader, words ...string) (outcome, error) {
	command := commandLine(words...)
	out, err := p.run(ctx, t, command, stdin, nil)
	if err != nil {
		return out, err
	}
	if out.status != 0 {
		return out, &plan.Error{Code: "MF5409", Step: step + " on " + t.String(), Sent: command, Got: out.said(), Fix: toolFix(out.stderr)}
	}
	return out, nil
}

// toolFix is what to do about a program of the machine's own that failed.
func toolFix(stderr string) string {
	switch {
	case strings.Contains(stderr, "No space left on device"):
		return "Make room on the host's disk (df -h shows it; journalctl --vacuum-size=200M and apt-get clean often help), or give it a larger system_disk; then run the same command again."
	case strings.Contains(stderr, "Read-only file system"):
		return "mailform's programs are below /usr/local, which has to be a file system that can be written. On images with a read-only /usr give it a mount or an overlay of its own; where it could be written before, look at dmesg for the disk's errors."
	}
	return "Look whether coreutils and gzip are installed there and the disk can be written to, then run the same command again."
}

// agent runs one of mailformd's agent commands with a request and returns what
// it answered.
func (p *Provider) agent(ctx context.Context, t target, step, program, command string, request any, lines func([]byte, io.Writer) error) ([]byte, error) {
	var stdin func() io.Reader
	if request != nil {
		b, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		b = append(b, '\n')
		stdin = func() io.Reader { return bytes.NewReader(b) }
	}
	out, err := p.run(ctx, t, commandLine(program, command), stdin, lines)
	if err != nil {
		return nil, err
	}
	if out.status != 0 {
		return nil, agentError(t, step, command, out)
	}
	return out.stdout, nil
}

// command runs a command of the installed agent that changes its host. request makes
// what is sent from the claim of this run, which takes the lease if it has none there.
func (p *Provider) command(ctx context.Context, t target, step, name string, request func(manifest.Claim) any) ([]byte, error) {
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return nil, err
	}
	return p.agent(ctx, t, step, paths.Binary(), name, request(claim), nil)
}

// commandAt is command on a host that is named.
func (p *Provider) commandAt(ctx context.Context, host, step, name string, request func(manifest.Claim) any) ([]byte, error) {
	t, err := p.target(host)
	if err != nil {
		return nil, err
	}
	return p.command(ctx, t, step, name, request)
}

// agentError says in a plan.Error what a failed agent command meant.
func agentError(t target, step, command string, out outcome) error {
	text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(out.stderr), "mailformd:"))
	if text == "" {
		text = fmt.Sprintf("exit status %d", out.status)
	}
	e := &plan.Error{Code: "MF5410", Step: step + " on " + t.String(), Sent: "mailformd " + command, Got: text}
	switch out.status {
	case manifest.ExitConflict:
		e.Class, e.Code, e.Fix = plan.ErrBlocked, "MF5411", "mailform overwrites nothing that it did not make. Where a name for --take is given, `mailform plan` shows it field by field. Otherwise move it away, then run the same command again."
	case manifest.ExitOwned:
		e.Class, e.Code, e.Fix = plan.ErrBlocked, "MF5412", "Use another machine, or let the other stack give this one up: `mailform destroy` in its folder."
	case manifest.ExitFenced:
		e.Class, e.Code, e.Fix = plan.ErrStale, "MF5413", "The lease on this host is not this run's, or no longer: another run has taken it since, or a person has ended it. Run the same command again; it plans anew."
	case manifest.ExitLeased:
		e.Class, e.Code, e.Fix = plan.ErrLocked, "MF5424", "Wait until it is done. When that process is gone, its lease ends by itself within a minute, and `mailform unlock` takes it away at once."
	case manifest.ExitBusy:
		e.Class, e.Code, e.Fix = plan.ErrTransient, "MF5414", "Wait until the other run has ended."
	case manifest.ExitRequest:
		e.Code, e.Fix = "MF5415", "Run the same command again; it plans anew from what is there."
	case manifest.ExitUnhealthy:
		e.Code, e.Fix = "MF5416", "Look at the service: systemctl status mailformd, journalctl -u mailformd. Running the same command again tries once more."
	default:
		e.Fix = "When the cause is mended, run the same command again: it continues where this one ended."
	}
	return e
}

// architectures by what uname -sm says.
var architectures = map[string]string{"Linux x86_64": "amd64", "Linux amd64": "amd64", "Linux aarch64": "arm64", "Linux arm64": "arm64"}

// probe finds out the machine's architecture and the digest of the installed
// mailformd, "" when there is none.
func (p *Provider) probe(ctx context.Context, t target) (arch, sha string, err error) {
	out, err := p.tool(ctx, t, "ask for the architecture", nil, "uname", "-sm")
	if err != nil {
		return "", "", err
	}
	machine := strings.TrimSpace(string(out.stdout))
	arch, ok := architectures[machine]
	if lines := strings.Split(machine, "\n"); len(lines) > 1 && slices.ContainsFunc(lines, func(l string) bool { return architectures[l] != "" }) {
		return "", "", &plan.Error{Class: plan.ErrBlocked, Code: "MF5417", Step: "look at " + t.String(), Sent: "uname -sm", Got: fmt.Sprintf("%.200q", machine),
			Fix: "The login shell of " + t.user + " says something of its own, which no program over SSH can tell from an answer. Let it do so at a terminal only: in ~/.bashrc there, behind a line `[[ $- == *i* ]] || return`."}
	}
	if !ok {
		return "", "", &plan.Error{Code: "MF5417", Step: "look at " + t.String(), Sent: "uname -sm", Got: fmt.Sprintf("%.80q", machine),
			Fix: "mailform serves from Linux on x86_64 and aarch64."}
	}
	sha, err = p.digest(ctx, t, paths.Binary())
	if err == nil && sha == "" { // nothing of ours has looked at it yet
		err = p.supported(ctx, t)
	}
	return arch, sha, err
}

// supported says no to a machine that mailform cannot serve from.
func (p *Provider) supported(ctx context.Context, t target) error {
	command := commandLine(systemdVersion()...)
	out, err := p.run(ctx, t, command, nil, nil)
	if err != nil {
		return err
	}
	e := &plan.Error{Class: plan.ErrBlocked, Code: "MF5432", Step: "look at " + t.String(), Sent: command, Got: out.said(),
		Fix: fmt.Sprintf("mailform needs a machine that is run by systemd, version %d or later: Debian 12, Ubuntu 22.04, Alibaba Cloud Linux 3, CentOS Stream 9, AlmaLinux 9 or a later one.", manifest.MinSystemd)}
	if out.status != 0 {
		return e
	}
	if v, ok := manifest.SystemdVersion(string(out.stdout)); !ok || v < manifest.MinSystemd {
		e.Got = fmt.Sprintf("%.80q", strings.TrimSpace(string(out.stdout)))
		return e
	}
	return nil
}

// digest returns the SHA-256 of a file on the machine, "" when it cannot be read.
func (p *Provider) digest(ctx context.Context, t target, file string) (string, error) {
	command := commandLine("sha256sum", file)
	out, err := p.run(ctx, t, command, nil, nil)
	if err != nil {
		return "", err
	}
	switch out.status {
	case 0:
	case 1: // it does not exist
		return "", nil
	default:
		return "", &plan.Error{Code: "MF5409", Step: "read " + file + " on " + t.String(), Sent: command, Got: out.said(), Fix: "sha256sum of coreutils is needed."}
	}
	sum, _, _ := strings.Cut(string(out.stdout), " ")
	sum = strings.TrimPrefix(sum, `\`) // GNU's mark of an escaped name
	if len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", &plan.Error{Code: "MF5409", Step: "read " + file + " on " + t.String(), Sent: command, Got: fmt.Sprintf("no digest: %.80q", sum)}
	}
	return sum, nil
}
