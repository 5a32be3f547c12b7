package manifest

// BanList are the clients whose packets to the mail ports are dropped by the host's
// own firewall.
type BanList struct {
	On   bool  `json:"on"` // whether the host has a firewall of its own
	Bans []Ban `json:"bans"`
}

// Ban is one of them.
type Ban struct {
	Client  string `json:"client"`  // "192.0.2.1", or an IPv6 network, "2001:db8::/64"
	Seconds int64  `json:"seconds"` // until it ends by itself
}

// LiftRequest ends a client's ban before its time.
type LiftRequest struct {
	Claim
	Address string `json:"address"` // any address of the client
}

// Lifted answers a LiftRequest.
type Lifted struct {
	Client string `json:"client"` // whose ban it was
	Lifted bool   `json:"lifted"` // whether there was one
}

// Units of what carries bans out.
const (
	BansSocketUnit  = "mailformd-bans.socket"
	BansServiceUnit = "mailformd-bans.service"
)

// BansSocket is where the running daemon asks for bans.
func (l Layout) BansSocket() string { return l.at("/run/mailformd-bans.sock") }

// TCPFiles are how the kernel shows connections, proc_pid_net(5).
func (l Layout) TCPFiles() []string { return []string{l.at("/proc/net/tcp"), l.at("/proc/net/tcp6")} }
