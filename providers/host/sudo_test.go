package host

import (
	"strings"
	"testing"
)

// What sudo 1.9 and shells say, and what a person is told.
func TestSudoTrouble(t *testing.T) {
	for _, c := range []struct {
		out      outcome
		got, fix string
	}{
		{outcome{status: 1, stderr: "sudo: a password is required\n"}, "asks for a password", "NOPASSWD"},
		{outcome{status: 1, stderr: "sudo: a terminal is required to read the password; either use the -S option"}, "asks for a password", "NOPASSWD"},
		{outcome{status: 1, stderr: "sudo: sorry, you must have a tty to run sudo"}, "requiretty", "Defaults:admin !requiretty"},
		{outcome{status: 127, stderr: "bash: line 1: sudo: command not found"}, "sudo is not there", "Install sudo"},
		{outcome{status: 1, stderr: "admin is not in the sudoers file."}, "may not use sudo", "admin ALL=(ALL) NOPASSWD: ALL"},
		{outcome{status: 1, stderr: "Sorry, user admin may not run sudo on mx1."}, "may not use sudo", "NOPASSWD"},
		{outcome{status: 1, stderr: "sudo: etwas anderes"}, "etwas anderes", "NOPASSWD"},
	} {
		got, fix := sudoTrouble("admin", c.out)
		if !strings.Contains(got, c.got) || !strings.Contains(fix, c.fix) || !strings.Contains(got, strings.TrimSpace(c.out.stderr)) {
			t.Errorf("%q: %q %q", c.out.stderr, got, fix)
		}
	}
}
