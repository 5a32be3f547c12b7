package main

import "testing"

func TestFoldBreaksOnlyForATerminalAndBetweenWords(t *testing.T) {
	text := "content was one long text, is now another\n         ttl was 300"
	for width, want := range map[int]string{
		0:  text, // no terminal: scripts look for whole lines
		80: text,
		35: "content was one long text,\n         is now another\n         ttl was 300",
		5:  text, // no room at all
	} {
		if got := (&terminal{errWidth: width}).fold(text, 9); got != want {
			t.Errorf("%d columns:\n%s\nwanted\n%s", width, got, want)
		}
	}
}
