package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// bansDocument is the document of mailform bans --json.
type bansDocument struct {
	FormatVersion int       `json:"format_version"` // 1
	Stack         string    `json:"stack"`          // its name
	Bans          []banView `json:"bans"`           // by host and client
}

// banView is a ban in it.
type banView struct {
	Host    string `json:"host"`    // whose firewall drops the client's packets
	Client  string `json:"client"`  // an IPv4 address or an IPv6 network
	Seconds int64  `json:"seconds"` // until the ban ends by itself
}

func (a *app) bansCommand() *cobra.Command {
	var stack stackFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "bans [HOST] [FOLDER]", Short: "list the clients that the hosts' firewalls drop; lift a ban",
		Long: `A client that guesses passwords, or connects without end, and goes on although it is
refused is banned by the host's own firewall (firewall { host = true }): its packets to
the mail ports are dropped for ten minutes, and each time for twice as long, up to a
day. Networks that the spec lets in by name, private ones and whoever is logged in over
SSH are never banned.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			hosts, args := hostArgument(args)
			s, err := a.open(&stack, args, true)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			found, err := s.Bans(ctx, hosts)
			if err != nil {
				return interrupted(ctx, err)
			}
			if asJSON {
				doc := bansDocument{1, s.Spec.Stack.Name, []banView{}}
				for _, h := range found {
					for _, b := range h.Bans {
						doc.Bans = append(doc.Bans, banView{h.Host, b.Client, b.Seconds})
					}
				}
				enc := json.NewEncoder(a.term.out)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				return enc.Encode(doc)
			}
			for _, h := range found {
				switch {
				case !h.On:
					fmt.Fprintf(a.term.out, "%s has no firewall of its own: nobody is banned there. firewall { host = true } in its block turns it on.\n", h.Host)
				case len(h.Bans) == 0:
					fmt.Fprintf(a.term.out, "%s bans nobody.\n", h.Host)
				}
				for _, b := range h.Bans {
					fmt.Fprintf(a.term.out, "%s bans %s for another %s\n", h.Host, b.Client, time.Duration(b.Seconds)*time.Second)
				}
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	c.AddCommand(a.liftBanCommand())
	return c
}

func (a *app) liftBanCommand() *cobra.Command {
	var stack stackFlags
	c := &cobra.Command{
		Use: "lift ADDRESS [HOST] [FOLDER]", Short: "end a client's ban before its time, on all hosts when none is named",
		Args: cobra.RangeArgs(1, 3),
		RunE: func(c *cobra.Command, args []string) error {
			hosts, folder := hostArgument(args[1:])
			s, err := a.open(&stack, folder, false)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			lifted, err := s.LiftBan(ctx, hosts, args[0])
			for _, l := range lifted {
				fmt.Fprintf(a.term.out, "%s is no longer banned on %s.\n", l.Client, l.Host)
			}
			return interrupted(ctx, err)
		},
	}
	stack.add(c)
	return c
}
