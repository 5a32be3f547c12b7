package main

import (
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

func TestChooseVersion(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	sha := func(c string) string { return strings.Repeat(c, 64) }
	versions := []manifest.Version{
		{SHA256: sha("a"), Version: "1.3", Installed: at.Add(3 * time.Hour), Served: at.Add(3 * time.Hour), Active: true},
		{SHA256: sha("b"), Version: "1.2", Installed: at.Add(2 * time.Hour)}, // never served
		{SHA256: sha("c"), Version: "1.1", Installed: at, Served: at},
		{SHA256: sha("d"), Version: "1.1", Installed: at, Served: at.Add(time.Hour)},
	}
	for to, want := range map[string]string{"": "d", "1.2": "b", "cccc": "c"} {
		if v, err := chooseVersion(versions, to); err != nil || v.SHA256 != sha(want) {
			t.Errorf("%q: %.4s %v, want %s", to, v.SHA256, err, want)
		}
	}
	for to, want := range map[string]string{"1.1": "2 versions", "1.3": "serves already", "9": "no version", "ccc": "no version"} {
		if _, err := chooseVersion(versions, to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error that says %q", to, err, want)
		}
	}
	if _, err := chooseVersion(versions[:2], ""); err == nil {
		t.Error("a version that never served was chosen")
	}
}
