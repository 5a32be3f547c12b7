package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailform/plan"
	"mailform/server/account"
)

// minPassword is the shortest password that hash-password accepts, NIST SP 800-63B 3.1.1.
const minPassword = 8

func (a *app) passwordCommand() *cobra.Command {
	var stack stackFlags
	c := &cobra.Command{
		Use:   "password MAILBOX [FOLDER]",
		Short: "make a new password for a mailbox on its host, and print it",
		Long: `password gives a mailbox, such as alice@example.com, a new random password. The
host makes it and keeps only its hash; it is printed here and nowhere else. The
old one stops working at once. For a mailbox with a password_hash in the spec,
change that instead.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(&stack, args[1:], false)
			if err != nil {
				return err
			}
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			if err := s.Lock(ctx, "mailform password"); err != nil {
				return err
			}
			defer s.Close()
			password, err := s.NewPassword(ctx, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.term.out, password)
			return nil
		},
	}
	stack.add(c)
	return c
}

func (a *app) hashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password",
		Short: "hash a password for the spec's password_hash",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			password, err := a.readPassword()
			if err != nil {
				return err
			}
			if len(password) < minPassword {
				return fmt.Errorf("the password has %d characters; at least %d are needed", len(password), minPassword)
			}
			hash, err := account.HashPassword(password)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.term.out, hash)
			return nil
		},
	}
}

// readPassword reads without echo, twice, from a terminal; one line otherwise.
// Never from the command line, where other users would see it.
func (a *app) readPassword() (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return a.term.ask("")
	}
	var twice [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		b, err := a.term.askSecret(prompt)
		if err != nil {
			return "", err
		}
		twice[i] = string(b)
	}
	if twice[0] != twice[1] {
		return "", errors.New("the two passwords differ")
	}
	return twice[0], nil
}

// mailboxName is the e-mail address in a mailbox's plan address.
func mailboxName(a plan.Address) string {
	return strings.TrimPrefix(string(a), "mailbox/")
}
