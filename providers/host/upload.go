package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailform/plan"
)

// Bounds of an upload: how often one that gets no further is taken up again, and
// how long a machine that has gone away is waited for.
const (
	uploadTries = 4
	uploadPause = 2 * time.Second
)

const uploadStep = "upload mailformd"

// upload brings a program to the machine, compressed, and checks its digest
// before anything runs it. What arrived before a connection broke, in this run or
// an earlier one, is not sent again.
func (p *Provider) upload(ctx context.Context, t target, sha string, zipped []byte, progress plan.Progress) (string, error) {
	// The name says which bytes they are, so that halves of two files never meet.
	sum := sha256.Sum256(zipped)
	file := paths.UploadPrefix() + sha + "-" + hex.EncodeToString(sum[:8])
	have, err := p.digest(ctx, t, file)
	if err != nil {
		return "", err
	}
	if have != sha {
		if _, err := p.tool(ctx, t, uploadStep, nil, "mkdir", "-p", paths.VersionsDir()); err != nil {
			return "", err
		}
		if have, err = p.transfer(ctx, t, file, zipped, progress); err == nil && have != sha {
			// A power cut leaves holes in what was there: all of it once more.
			if _, err = p.tool(ctx, t, uploadStep, nil, "rm", "-f", file, file+".gz"); err == nil {
				have, err = p.transfer(ctx, t, file, zipped, progress)
			}
		}
		if err != nil {
			return "", err
		}
	}
	if have != sha {
		return "", &plan.Error{Class: plan.ErrTransient, Code: "MF5421", Step: uploadStep + " to " + t.String(), Sent: fmt.Sprintf("%d bytes", len(zipped)),
			Got: "the file there has SHA-256 " + have + ", not " + sha, Fix: "Run the same command again."}
	}
	_, err = p.tool(ctx, t, uploadStep, nil, "chmod", "0755", file)
	return file, err
}

// transfer sends what is missing of a compressed file and unpacks it. It returns
// the digest of what came of it, "" for nothing that can be unpacked.
func (p *Provider) transfer(ctx context.Context, t target, file string, zipped []byte, progress plan.Progress) (string, error) {
	for tries, last := 0, int64(-1); ; {
		at, err := p.sizeOf(ctx, t, file+".gz", int64(len(zipped)))
		if err == nil {
			if at > last {
				tries, last = 0, at
			}
			err = p.send(ctx, t, file+".gz", zipped, at, progress)
		}
		if err == nil {
			break
		}
		// A connection that broke. Whatever else fails, fails again.
		if class := plan.ClassOf(err); class != plan.ErrAmbiguous && class != plan.ErrTransient || ctx.Err() != nil {
			return "", err
		}
		if tries++; tries == uploadTries {
			return "", err
		}
		if progress != nil {
			progress("the connection broke; the upload goes on where it was", at, int64(len(zipped)))
		}
		if err := p.Sleep(ctx, uploadPause); err != nil {
			return "", err
		}
	}
	out, err := p.run(ctx, t, commandLine("gzip", "-df", file+".gz"), nil, nil)
	if err != nil {
		return "", err
	}
	if out.status != 0 {
		return "", nil
	}
	return p.digest(ctx, t, file)
}

// sizeOf is how much of a file is there; 0 for one that is longer than it may be.
func (p *Provider) sizeOf(ctx context.Context, t target, file string, limit int64) (int64, error) {
	out, err := p.run(ctx, t, commandLine("stat", "-c", "%s", file), nil, nil)
	if err != nil || out.status != 0 {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out.stdout)), 10, 64)
	if err != nil || n < 0 || n > limit {
		return 0, nil
	}
	return n, nil
}

// send appends the rest of a file to what is there of it.
func (p *Provider) send(ctx context.Context, t target, file string, zipped []byte, at int64, progress plan.Progress) error {
	words := []string{"dd", "of=" + file, "bs=65536", "conv=fsync", "status=none"}
	if at > 0 {
		words = []string{"dd", "of=" + file, "bs=65536", "seek=" + strconv.FormatInt(at, 10), "oflag=seek_bytes", "conv=notrunc,fsync", "status=none"}
	}
	body := func() io.Reader {
		return &counting{r: bytes.NewReader(zipped[at:]), begun: at, done: at, total: int64(len(zipped)), progress: progress, now: p.Now, start: p.Now()}
	}
	_, err := p.tool(ctx, t, uploadStep, body, words...)
	return err
}

// counting reports how far an upload is: how fast, and how long it still takes.
type counting struct {
	r                  io.Reader
	begun, done, total int64
	progress           plan.Progress
	now                func() time.Time
	start, told        time.Time
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	if c.progress == nil || n == 0 {
		return n, err
	}
	now := c.now()
	if c.done < c.total && now.Sub(c.told) < 200*time.Millisecond {
		return n, err
	}
	c.told = now
	c.progress(c.text(now.Sub(c.start)), c.done, c.total)
	return n, err
}

// text is "uploading mailformd, 3.1 of 5.2 MB, 1.0 Mbit/s, 17s left".
func (c *counting) text(took time.Duration) string {
	text := fmt.Sprintf("uploading mailformd, %.1f of %.1f MB", float64(c.done)/1e6, float64(c.total)/1e6)
	if took < time.Second {
		return text
	}
	rate := float64(c.done-c.begun) / took.Seconds()
	if rate <= 0 {
		return text
	}
	left := time.Duration(float64(c.total-c.done) / rate * float64(time.Second))
	return fmt.Sprintf("%s, %.1f Mbit/s, %s left", text, rate*8/1e6, left.Round(time.Second))
}
