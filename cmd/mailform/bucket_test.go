package main

import (
	"strings"
	"testing"
)

// TestABucketForBackupsIsMade: with the rest of a stack. The host writes into it, signing
// as the role of its instance. It goes with the stack, but not before it is empty; what
// stands in the way is said, and the rest of the stack is gone by then. Commands that
// only read may look at it.
func TestABucketForBackupsIsMade(t *testing.T) {
	t.Parallel()
	w, s := newShell(t, nil)
	s.rewrite(t, `domain "example.com" {`, `backup {
  oss {
    bucket = "example-mail-backup"
  }
}

domain "example.com" {`)
	s.rewrite(t, "  instance {", "  instance {\n    ram_role = \"mail-backup\"")
	s.must(t, 0, "apply", "--auto-approve")
	describe := func() string {
		t.Helper()
		lines, err := w.Describe()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	if described := describe(); !strings.Contains(described, `bucket "example-mail-backup" private, closed true, versioning "Enabled", encryption "AES256"`) {
		t.Errorf("no such bucket in\n%s", described)
	}
	s.must(t, 0, "drift")
	if todo := s.actions(t); len(todo) != 0 {
		t.Errorf("left: %v", todo)
	}
	s.must(t, 0, "ssh", "--", "mailformd", "backup", "now")
	made := len(w.Cloud().Objects("example-mail-backup"))
	if made == 0 {
		t.Fatal("nothing is in the bucket")
	}
	stdout, stderr := s.must(t, 8, "destroy", "--auto-approve")
	if said := stdout + stderr; !strings.Contains(said, "BucketNotEmpty") || !strings.Contains(said, `forget "backup/example-mail-backup"`) {
		t.Errorf("what to do about the bucket is not said:\n%s", said)
	}
	if left := w.Inventory(); len(left) != 1 || left[0] != "bucket example-mail-backup" || len(w.Cloud().Objects("example-mail-backup")) != made {
		t.Errorf("left: %v", left)
	}
	w.Cloud().EmptyBucket("example-mail-backup") // as a person does in the console
	s.must(t, 0, "destroy", "--auto-approve")
	if left := describe(); strings.Contains(left, `bucket "`) {
		t.Errorf("left:\n%s", left)
	}
}
