package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"mailform/providers/host"
	"mailform/specs"
)

// backsUp reports whether the spec's hosts back up to a bucket that mailform makes:
// such a one there is in the simulated cloud, too.
func (r *Rehearsal) backsUp() bool { return r.Spec.Backup != nil && r.Spec.Backup.Create }

// backup has each host make a backup, and looks for it in the bucket.
func (r *Rehearsal) backup(ctx context.Context) (string, error) {
	files, octets := 0, 0
	for _, h := range r.Spec.Hosts {
		var made struct{ Files, Bytes int }
		text, err := r.onHost(ctx, h, "mailformd backup now --json")
		if err != nil {
			return "", err
		}
		if err := json.Unmarshal([]byte(text), &made); err != nil {
			return "", fmt.Errorf("host %s: mailformd backup now --json answered what is no JSON: %w", h.Name, err)
		}
		files, octets = files+made.Files, octets+made.Bytes
	}
	have := r.World.Cloud().Objects(r.Spec.Backup.Bucket)
	if len(have) == 0 {
		return "", fmt.Errorf("nothing is in the bucket %s", r.Spec.Backup.Bucket)
	}
	return fmt.Sprintf("%d files, %d octets; bucket %s has %d objects", files, octets, r.Spec.Backup.Bucket, len(have)), nil
}

// onHost runs a command as root and returns what it printed.
func (r *Rehearsal) onHost(ctx context.Context, h *specs.Host, command string) (string, error) {
	line := command
	if h.SSH.User != "root" {
		line = "sudo -n " + command
	}
	var out, wrong strings.Builder
	status, err := r.session.Shell(ctx, h.Name, host.Shell{Command: line, Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.MultiWriter(&wrong, r.cfg.Log)})
	if err != nil {
		return "", err
	}
	if status != 0 {
		return "", fmt.Errorf("host %s: %s ended with %d: %s", h.Name, command, status, strings.TrimSpace(wrong.String()))
	}
	return out.String(), nil
}

// emptyBucket does what a person has to do before the bucket can go.
func (r *Rehearsal) emptyBucket(context.Context) (string, error) {
	name := r.Spec.Backup.Bucket
	have := len(r.World.Cloud().Objects(name))
	r.World.Cloud().EmptyBucket(name)
	return fmt.Sprintf("%d objects in %s; mailform deletes no backups, and a bucket only when it is empty", have, name), nil
}
