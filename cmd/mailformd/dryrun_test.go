package main

import (
	"bytes"
	"testing"

	"mailform/server/manifest"
)

func TestPrintDryRun(t *testing.T) {
	var b bytes.Buffer
	n, err := printDryRun(&b, []manifest.AgentEvent{
		{Step: "folder /etc/mailform", Status: "would change", Detail: "mode is 0777, not 0750"},
		{Step: "user mailform", Status: "unchanged"},
		{Step: "manifest", Status: "would change", Detail: "max_message_bytes 1 → 2"},
	})
	want := "~ folder /etc/mailform  mode is 0777, not 0750\n~ manifest              max_message_bytes 1 → 2\n"
	if err != nil || n != 2 || b.String() != want {
		t.Errorf("%d %v\n%s\nwant\n%s", n, err, b.String(), want)
	}
	b.Reset()
	if n, err := printDryRun(&b, []manifest.AgentEvent{{Step: "a", Status: "unchanged"}}); err != nil || n != 0 || b.String() != "Nothing would change: 1 things are as they should be.\n" {
		t.Errorf("%d %v %s", n, err, b.String())
	}
}
