package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/manifest"
)

// bansIdle is after how long without a request the helper ends; its socket starts it again.
const bansIdle = 30 * time.Second

// bansCommand is for a person on the host, for mailform, and for systemd.
func bansCommand(version string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "bans", Short: "list the clients whose packets the host's firewall drops", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := newAgent(version)
			if err != nil {
				return err
			}
			list, err := a.Bans(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return answer(cmd, list)
			}
			if len(list.Bans) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "Nobody is banned.")
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, b := range list.Bans {
				fmt.Fprintf(t, "%s\tfor another %s\n", b.Client, time.Duration(b.Seconds)*time.Second)
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	c.AddCommand(&cobra.Command{
		Use: "lift ADDRESS", Short: "end a client's ban", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := newAgent(version)
			if err != nil {
				return err
			}
			got, err := a.LiftBan(cmd.Context(), manifest.LiftRequest{Address: args[0]})
			if err == nil && !got.Lifted {
				return fmt.Errorf("%s is not banned", got.Client)
			}
			return err
		},
	}, serveBansCommand())
	return c
}

// serveBansCommand is what systemd starts when the daemon asks for a ban.
func serveBansCommand() *cobra.Command {
	var never []string
	var port int
	c := &cobra.Command{
		Use: "serve", Short: "carry out bans that the daemon asks for; run by systemd", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := &agent.BanHelper{Peers: agent.SSHPeers(layout(), port), Load: agent.LoadNFT, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), Idle: bansIdle}
			for _, text := range never {
				p, err := netip.ParsePrefix(text)
				if err != nil {
					return err
				}
				h.Never = append(h.Never, p)
			}
			conn, err := bansConn()
			if err != nil {
				return err
			}
			defer conn.Close()
			return h.Serve(cmd.Context(), conn)
		},
	}
	c.Flags().StringArrayVar(&never, "never", nil, "a network whose clients are never banned")
	c.Flags().IntVar(&port, "ssh-port", 22, "the SSH server's port: who is connected to it is never banned")
	return c
}

// bansConn is the socket that systemd hands over, sd_listen_fds(3).
func bansConn() (net.PacketConn, error) {
	if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		return nil, errors.New("there is no socket: systemd starts this")
	}
	f := os.NewFile(3, "bans")
	defer f.Close()
	return net.FilePacketConn(f)
}

func liftBan(ctx context.Context, a *agent.Agent, cmd *cobra.Command, args []string) error {
	return request((*agent.Agent).LiftBan)(ctx, a, cmd, args)
}
