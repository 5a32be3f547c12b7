package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
)

// The connection ends after each of many numbers of bytes of everything that goes
// between mailform and a machine, from the first connection to the end of the
// converge. The run itself or the next one comes to the same end, and a third has
// nothing to do. MAILFORM_CRASH=everything cuts at ten times as many places.
func TestConnectionCutAnywhere(t *testing.T) {
	points := int64(8)
	if os.Getenv("MAILFORM_CRASH") == "everything" {
		points *= 10
	}
	var installed int64 // bytes up to then: nearly all of them are the upload
	var late int64      // where to cut after that: what SSH adds to the upload is never the same
	// attempt runs everything that a plan asks for and returns the first error.
	attempt := func(l *lab, cut *hostsim.Cut) (int, error) {
		p := l.provider(l.spec())
		dial := p.Dial
		p.SSH.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return cut.Conn(c), nil
		}
		r, err := l.plan(p, l.spec(), nil)
		if err != nil {
			return 0, err
		}
		for i, op := range r.ordered() {
			// As apply does: once more for what had no effect for certain.
			err := r.do(op)
			if plan.ClassOf(err) == plan.ErrTransient && err != nil {
				err = r.do(op)
			}
			if err != nil {
				return i, err
			}
			if op.Kind == opInstall && installed == 0 {
				installed = cut.Moved()
			}
			if op.Kind == opInstall && late > 0 {
				cut.After(late)
				late = 0
			}
		}
		return len(r.plan.Ops), nil
	}
	whole := &hostsim.Cut{}
	l := newLab(t, hostsim.Config{})
	if _, err := attempt(l, whole); err != nil {
		t.Fatal(err)
	}
	total := whole.Moved()
	var table strings.Builder
	for i := range 2 * points {
		at := 1 + installed*i/points
		if i >= points {
			at = 1 + installed + (total-installed)*(i-points)/points
		}
		l, cut := newLab(t, hostsim.Config{}), &hostsim.Cut{}
		if late = at - installed; i < points {
			late = 0
			cut.After(at)
		}
		done, first := attempt(l, cut)
		outcome := "goes on by itself"
		if first != nil {
			outcome = fmt.Sprintf("stops after %d steps: %.60s", done, strings.ReplaceAll(first.Error(), "\n", " "))
		}
		if cut.Cuts != 1 {
			t.Fatalf("at %d: %d connections were cut", at, cut.Cuts)
		}
		if first != nil {
			if _, err := attempt(l, cut); err != nil {
				t.Errorf("cut after %d bytes, the next run: %v", at, err)
			}
		}
		if ops, err := attempt(l, cut); err != nil || ops != 0 {
			t.Errorf("cut after %d bytes, the last run has %d operations: %v", at, ops, err)
		}
		fmt.Fprintf(&table, "%10d of %d bytes  %s\n", at, total, outcome)
		l.host.Destroy()
	}
	t.Logf("connection cut at %d places, %d of them after the upload:\n%s", 2*points, points, table.String())
}

// What arrived of an upload is not sent again, in the same run and in the next.
func TestUploadIsResumed(t *testing.T) {
	l, cut := newLab(t, hostsim.Config{}), &hostsim.Cut{}
	p := l.provider(l.spec())
	dial := p.Dial
	p.SSH.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return cut.Conn(c), nil
	}
	b, err := p.Agents.Agent(l.arch(p))
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := b.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(zipped))
	tgt, _ := p.readTarget(targetInput("mx1", targetOf(l.spec().Hosts[0])))
	var said []string
	progress := func(message string, _, _ int64) { said = append(said, message) }
	cut.After(size * 2 / 3)
	before := cut.Moved()
	file, err := p.upload(context.Background(), tgt, b.SHA256, zipped, progress)
	if err != nil || cut.Cuts != 1 {
		t.Fatalf("%v, %d cuts", err, cut.Cuts)
	}
	if moved := cut.Moved() - before; moved > size*4/3 {
		t.Errorf("%d bytes went over the wire for a file of %d", moved, size)
	}
	if have, err := p.digest(context.Background(), tgt, file); err != nil || have != b.SHA256 {
		t.Errorf("%s %v", have, err)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "goes on where it was") || !strings.Contains(text, " MB") {
		t.Errorf("progress: %q", said)
	}
	// A part with holes, as a power cut leaves it, is not used and not run.
	l.host.Destroy()
	l = newLab(t, hostsim.Config{})
	p = l.provider(l.spec())
	tgt, _ = p.readTarget(targetInput("mx1", targetOf(l.spec().Hosts[0])))
	holes := make([]byte, size/2)
	if _, err := p.tool(context.Background(), tgt, "prepare", nil, "mkdir", "-p", paths.VersionsDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.host.Root()+file+".gz", holes, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.upload(context.Background(), tgt, b.SHA256, zipped, nil); err != nil {
		t.Error(err)
	}
}

func (l *lab) arch(p *Provider) string {
	tgt, _ := p.readTarget(targetInput("mx1", targetOf(l.spec().Hosts[0])))
	arch, _, err := p.probe(context.Background(), tgt)
	if err != nil {
		l.t.Fatal(err)
	}
	return arch
}

func TestUploadText(t *testing.T) {
	c := &counting{begun: 1_000_000, done: 2_000_000, total: 5_200_000}
	if got, want := c.text(8*time.Second), "uploading mailformd, 2.0 of 5.2 MB, 1.0 Mbit/s, 26s left"; got != want {
		t.Errorf("%q", got)
	}
	if got := c.text(0); got != "uploading mailformd, 2.0 of 5.2 MB" {
		t.Errorf("%q", got)
	}
}
