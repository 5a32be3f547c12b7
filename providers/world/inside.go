package world

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailform/providers/alicloud/alicloudsim"
)

// What hosts reach of the cloud they stand in: its metadata service, and OSS under
// the vendor's own names. What they say there is not recorded, and no fault of
// Config's meets it: those are for mailform's own calls.

// The key that a rehearsed spec's hosts sign with when it gives them a lasting one.
const (
	HostKeyID     = "LTAI-simulated-host"
	HostKeySecret = "simulated-host-secret"
)

// hostMay is what hosts may do in the simulated account, by that key or as their
// role: what the policy permits that mailform prints for them.
var hostMay = [...]string{"oss:DeleteObject", "oss:GetObject", "oss:ListObjects", "oss:PutObject"}

// inside is the cloud's own network.
type inside struct {
	metadata, oss *http.Server
	url           string // of the metadata service, without the instance
	ossAddr       string
	cert          []byte // of OSS, PEM
}

func (w *World) startInside() error {
	names := []string{"oss-" + w.cfg.Region + ".aliyuncs.com", "oss-" + w.cfg.Region + "-internal.aliyuncs.com"}
	cert, err := selfSigned(time.Now(), names[0], names[1], "*."+names[0], "*."+names[1])
	if err != nil {
		return err
	}
	m, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	o, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.Close()
		return err
	}
	i := &w.inner
	i.url, i.ossAddr = "http://"+m.Addr().String()+"/", o.Addr().String()
	i.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	mux := http.NewServeMux()
	mux.HandleFunc("/{instance}/latest/", func(rw http.ResponseWriter, r *http.Request) {
		id := r.PathValue("instance")
		http.StripPrefix("/"+id, w.cloud.Metadata(id)).ServeHTTP(rw, r)
	})
	i.metadata = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	i.oss = &http.Server{Handler: w.cloud, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	go i.metadata.Serve(m)
	go i.oss.ServeTLS(o, "", "")
	return nil
}

func (i *inside) close() {
	for _, s := range []*http.Server{i.metadata, i.oss} {
		if s != nil {
			s.Close()
		}
	}
}

// dialHost connects to host:port as a host does.
func (w *World) dialHost(ctx context.Context, addr string) (net.Conn, error) {
	if !w.cfg.NoBackups && w.isOSS(addr) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", w.inner.ossAddr)
	}
	return w.DialOutside(ctx, addr)
}

// isOSS reports whether host:port is OSS in the world's region, or a bucket there.
func (w *World) isOSS(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "443" {
		return false
	}
	for _, own := range []string{"oss-" + w.cfg.Region + ".aliyuncs.com", "oss-" + w.cfg.Region + "-internal.aliyuncs.com"} {
		if bucket, in := strings.CutSuffix(host, own); in && (bucket == "" || strings.HasSuffix(bucket, ".")) {
			return true
		}
	}
	return false
}

// ofHost reports whether a call is one of a host's.
func ofHost(c alicloudsim.Call) bool {
	return c.AccessKeyID == HostKeyID || strings.HasPrefix(c.AccessKeyID, "STS.")
}

// byOperator spares hosts a fault that is meant for mailform.
func byOperator(fault func(alicloudsim.Call) alicloudsim.Fault) func(alicloudsim.Call) alicloudsim.Fault {
	if fault == nil {
		return nil
	}
	return func(c alicloudsim.Call) alicloudsim.Fault {
		if ofHost(c) {
			return alicloudsim.Fault{}
		}
		return fault(c)
	}
}

// operatorCalls are the cloud's calls without those of hosts.
func (w *World) operatorCalls() int {
	return len(slices.DeleteFunc(w.cloud.Calls(), ofHost))
}
