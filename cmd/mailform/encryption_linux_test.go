package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// encryption is turned on for a machine that has mail: nothing of that can be read on its
// disk after a while, and with the copy of the key a machine that lost it serves again.
func (r *real) encryption(t *testing.T) {
	const (
		subject = "by swaks"
		search  = "grep -rlF '" + subject + "' /var/lib/mailform || true"
		key     = "/etc/mailform/store/root.key"
	)
	had := r.inbox(t, "bob@example.com")
	if r.m.Sh(search) == "" {
		t.Fatal("no file of the store holds the message that is looked for")
	}
	more := filepath.Join(r.dir, "encrypted.hcl")
	if err := os.WriteFile(more, []byte("server {\n  storage {\n    encrypt = true\n  }\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.must(t, 0, "apply", "--auto-approve")
	r.must(t, 0, "plan", "--detailed-exitcode")
	if mode := r.m.Sh("stat -c '%a %U %G' " + key); mode != "640 root mailform" {
		t.Errorf("the storage key is %s", mode)
	}
	r.m.Sh(`for i in $(seq 600); do mailformd store stats | grep -q '^encrypted: *all$' && exit 0; sleep 0.1; done; mailformd store stats; exit 1`)
	if left := r.m.Sh(search); left != "" {
		t.Errorf("in the clear:\n%s", left)
	}
	if got := r.inbox(t, "bob@example.com"); got != had {
		t.Errorf("bob has %q, before he had %q", got, had)
	}

	file := filepath.Join(r.dir, "mx1.storage-key")
	r.must(t, 0, "storage-key", "export", "--out", file)
	if _, stderr, code := r.run(t, "storage-key", "export", "--out", file); code != 1 || !strings.Contains(stderr, "file exists") {
		t.Errorf("onto a file that is there: %d, %s", code, stderr)
	}
	r.m.Sh("systemctl stop mailformd.service && rm " + key)
	if stdout, stderr, code := r.run(t, "apply", "--auto-approve"); code == 0 {
		t.Errorf("without its key the machine serves:\n%s%s", stdout, stderr)
	}
	r.must(t, 0, "storage-key", "import", file)
	r.must(t, 0, "apply", "--auto-approve")
	if got := r.inbox(t, "bob@example.com"); got != had {
		t.Errorf("with its key again: bob has %q, before he had %q", got, had)
	}
	r.must(t, 0, "plan", "--detailed-exitcode")
}
