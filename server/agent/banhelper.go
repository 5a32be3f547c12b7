package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"mailform/server/limits"
	"mailform/server/manifest"
)

// BanHelper carries out what the daemon asks for, and trusts nothing of it: only
// clients of the public Internet, for a bounded time, never those that Never names
// and never one that is logged in over SSH.
type BanHelper struct {
	Never []netip.Prefix
	Peers func() []netip.Addr                 // who is logged in over SSH now
	Load  func(context.Context, string) error // carries out nft(8) commands
	Log   *slog.Logger
	Idle  time.Duration // without a request; then Serve ends, and the next request starts it again
}

// Serve hears requests until it is idle or ctx ends.
func (h *BanHelper) Serve(ctx context.Context, conn net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	pace := rate.NewLimiter(20, 100) // each one starts a program
	line := make([]byte, limits.MaxBanRequest+1)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(h.Idle)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		n, _, err := conn.ReadFrom(line)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := h.accept(line[:n])
		if err != nil {
			h.Log.Warn("a ban was refused", "why", err)
			continue
		}
		if err := pace.Wait(ctx); err != nil {
			return nil
		}
		if err := h.Load(ctx, banScript(b)); err != nil {
			h.Log.Error("a ban could not be carried out", "client", b.Client.String(), "error", err)
			continue
		}
		h.Log.Info("banned", "client", b.Client.String(), "for", b.For.String())
	}
}

// accept reads a request that may be carried out.
func (h *BanHelper) accept(line []byte) (limits.Ban, error) {
	b, err := limits.ParseBan(line)
	if err != nil {
		return b, err
	}
	if slices.ContainsFunc(h.Never, b.Client.Overlaps) {
		return b, fmt.Errorf("%s is of a network that the spec lets in", b.Client)
	}
	if slices.ContainsFunc(h.Peers(), b.Client.Contains) {
		return b, fmt.Errorf("%s is logged in over SSH", b.Client)
	}
	return b, nil
}

// banScript puts a client into its set, from now on for the whole time also when it
// is there already: in one step, so that it is never out of it.
func banScript(b limits.Ban) string {
	to, addr := bansTable+" "+bansSet(b.Client), b.Client.Addr()
	return fmt.Sprintf("add element %[1]s { %[2]s }\ndelete element %[1]s { %[2]s }\nadd element %[1]s { %[2]s timeout %[3]ds }\n", to, addr, int64(b.For/time.Second))
}

// LoadNFT carries out commands with nft(8).
func LoadNFT(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("nft: %w: %s", err, first)
	}
	return nil
}

// SSHPeers returns who is connected to a port of this machine, for BanHelper.
func SSHPeers(l manifest.Layout, port int) func() []netip.Addr {
	return func() []netip.Addr { return sshPeers(l, port) }
}

func sshPeers(l manifest.Layout, port int) []netip.Addr {
	var out []netip.Addr
	for _, file := range l.TCPFiles() {
		if text, err := os.ReadFile(file); err == nil { // no IPv6, no file
			out = append(out, parseTCP(string(text), port)...)
		}
	}
	return out
}

// parseTCP reads the other ends of established connections to a port from the
// kernel's list, proc_pid_net(5).
func parseTCP(text string, port int) []netip.Addr {
	var out []netip.Addr
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "01" {
			continue
		}
		_, local, ok := strings.Cut(f[1], ":")
		if p, err := strconv.ParseUint(local, 16, 16); !ok || err != nil || int(p) != port {
			continue
		}
		remote, _, _ := strings.Cut(f[2], ":")
		raw, err := hex.DecodeString(remote)
		if err != nil || len(raw) != 4 && len(raw) != 16 {
			continue
		}
		for i := 0; i < len(raw); i += 4 { // 32 bits at a time, in the machine's order: amd64 and arm64 are little-endian
			slices.Reverse(raw[i : i+4])
		}
		if addr, ok := netip.AddrFromSlice(raw); ok {
			out = append(out, addr.Unmap())
		}
	}
	return out
}
