package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestBadDays takes quickstart through a few faults of each kind with the real program;
// `mailform rehearse --faults examples/quickstart`, which .ci/run runs, takes it through all.
func TestBadDays(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	s := shell{dir: "../../examples/quickstart", env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "TMPDIR=" + tmp}}
	args := []string{"rehearse", "--faults", "--json"}
	want := map[string][]int{
		"alicloud/lost-lag": {0}, "alicloud/quota": {8, 0}, "alicloud/expired": {9, 0},
		"alicloud/address-listed": {0, 0},
		"cloudflare/lost-lag":     {0}, "cloudflare/pending": {8, 0}, "cloudflare/read-only": {9, 0},
		"acme/rate-limit": {10, 0}, "host/cut-converging": {0}, "host/disk-full": {8, 0},
	}
	for id := range want {
		args = append(args, "--only", id)
	}
	stdout, stderr := s.must(t, 0, args...)
	var r faultsResult
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		t.Fatalf("not one JSON document (%v): %s", err, stdout)
	}
	if !r.OK || len(r.Rows) != len(want) || stderr != "" {
		t.Errorf("%s%s", stdout, stderr)
	}
	for _, row := range r.Rows {
		if !row.OK || row.Skipped || row.Struck == 0 || !slices.Equal(row.Codes, want[row.ID]) || row.Runs != len(row.Codes) {
			t.Errorf("%s: %+v", row.ID, row)
		}
		if row.Codes[0] != 0 && !strings.Contains(row.Said, "to do") {
			t.Errorf("%s does not say what to do: %s", row.ID, row.Said)
		}
	}
	nothingLeft(t, tmp)
}

// TestNoSuchFault: what there is, is named.
func TestNoSuchFault(t *testing.T) {
	t.Parallel()
	s := shell{dir: "../../examples/quickstart", env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}}
	if _, stderr := s.must(t, 1, "rehearse", "--faults", "--only", "acme/rats"); !strings.Contains(stderr, "acme/rate-limit") {
		t.Errorf("said: %s", stderr)
	}
}
