package main

import (
	"slices"
	"strings"
	"testing"
)

// classes divides the steps of a run, in their order, into those between which
// nothing changes that outlives the process: neither its files nor the world. A
// process that is killed at one step of a class leaves what it would at any other,
// as far as what other conversations do at that moment is not up to chance.
func classes(order []string) [][]string {
	var out [][]string
	begun := false
	for _, step := range order {
		if !begun {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], step)
		begun = !hasEffect(step)
	}
	return out
}

// hasEffect reports whether something that lasts follows upon a step.
func hasEffect(step string) bool {
	if at, ok := strings.CutPrefix(step, "disk: "); ok {
		// What is written is there for whoever comes after a kill, synced or not; and
		// the kernel takes its lock back.
		what, _, _ := strings.Cut(at, " ")
		return !slices.Contains([]string{"sync", "synced", "closed", "renamed", "locked", "unlock"}, what)
	}
	call, at := cutLast(step)
	switch {
	case strings.HasPrefix(call, "cloud "), strings.HasPrefix(call, "dns "):
		return strings.HasPrefix(at, "asked") && changes(call)
	case strings.HasPrefix(call, "ca "):
		return strings.HasPrefix(at, "asked")
	}
	// A command on a host goes on by itself once it has begun.
	return !strings.HasPrefix(at, "ended")
}

// cutLast divides a step of a conversation into what is said and how far that is.
func cutLast(step string) (call, at string) {
	i := strings.LastIndex(step, ": ")
	return step[:max(i, 0)], strings.TrimPrefix(step[max(i, 0):], ": ")
}

// kind is what a step is apart from what it is about.
func kind(step string) string {
	if at, ok := strings.CutPrefix(step, "disk: "); ok {
		what, _, _ := strings.Cut(at, " ")
		return "disk " + what
	}
	call, at := cutLast(step)
	party, _, _ := strings.Cut(call, " ")
	at, _, _ = strings.Cut(at, " ")
	return party + " " + at
}

// oneOfEach takes a step of each class, of the kind that was taken least.
func oneOfEach(classes [][]string) []string {
	var out []string
	taken := map[string]int{}
	for _, c := range classes {
		least := slices.MinFunc(c, func(a, b string) int { return taken[kind(a)] - taken[kind(b)] })
		taken[kind(least)]++
		out = append(out, least)
	}
	return out
}

// TestClasses: a step after which something is changed is the last of its class, and each
// kind of step is taken where there are classes enough.
func TestClasses(t *testing.T) {
	t.Parallel()
	order := []string{
		"disk: open journal #1", "disk: write journal begin CreateVpc #1", "disk: sync journal begin CreateVpc #1", "disk: synced journal begin CreateVpc #1",
		"cloud CreateVpc #1: asked", "cloud CreateVpc #1: done, not answered", "disk: write journal done CreateVpc #1",
		"disk: sync journal done CreateVpc #1", "disk: synced journal done CreateVpc #1", "cloud DescribeVpcs #1: asked", "cloud DescribeVpcs #1: done, not answered",
		"ssh /usr/local/sbin/mailformd converge: asked #1", "ssh /usr/local/sbin/mailformd converge: said (1) #1", "ssh /usr/local/sbin/mailformd converge: ended #1",
		"disk: rename new to ledger.json #1", "disk: renamed new to ledger.json #1", "disk: synced the folder #1",
	}
	got := classes(order)
	var sizes []int
	for _, c := range got {
		sizes = append(sizes, len(c))
	}
	if want := []int{1, 1, 3, 2, 5, 1, 2, 2}; !slices.Equal(sizes, want) {
		t.Errorf("classes of %v steps, expected %v: %q", sizes, want, got)
	}
	if !slices.Equal(slices.Concat(got...), order) {
		t.Errorf("steps got lost: %q", got)
	}
	kinds := map[string]bool{}
	for _, step := range oneOfEach(got) {
		kinds[kind(step)] = true
	}
	if !kinds["disk sync"] || !kinds["disk synced"] && !kinds["cloud asked"] {
		t.Errorf("only these kinds are taken: %v", kinds)
	}
}
