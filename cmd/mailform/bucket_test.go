package main

import (
	"strings"
	"testing"
)

// TestABucketForBackupsIsMade: with the rest of a stack, and taken away with it while
// it is empty. Commands that only read may look at it.
func TestABucketForBackupsIsMade(t *testing.T) {
	t.Parallel()
	w, s := newShell(t, nil)
	s.rewrite(t, `domain "example.com" {`, `backup {
  access_key_id     = "LTAI-simulated"
  secret_access_key = sensitive("simulated-secret")
  oss {
    bucket = "example-mail-backup"
  }
}

domain "example.com" {`)
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
	s.must(t, 0, "destroy", "--auto-approve")
	if left := describe(); strings.Contains(left, `bucket "`) {
		t.Errorf("left:\n%s", left)
	}
}
