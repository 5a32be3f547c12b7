package web

import "encoding/xml"

// The elements of Thunderbird's configuration file, version 1.1:
// https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
}

type emailProvider struct {
	ID        string       `xml:"id,attr"`
	Domain    string       `xml:"domain"`
	Name      string       `xml:"displayName"`
	ShortName string       `xml:"displayShortName"`
	Incoming  []mailServer `xml:"incomingServer"`
	Outgoing  []mailServer `xml:"outgoingServer"`
}

type mailServer struct {
	Type           string `xml:"type,attr"`
	Hostname       string `xml:"hostname"`
	Port           int    `xml:"port"`
	SocketType     string `xml:"socketType"`
	Authentication string `xml:"authentication"`
	Username       string `xml:"username"`
}

// autoconfig is Thunderbird's configuration file. The program puts the address
// in place of %EMAILADDRESS%.
func (s servers) autoconfig() []byte {
	server := func(typ string, port int, socket string) mailServer {
		return mailServer{Type: typ, Hostname: s.hostname, Port: port, SocketType: socket,
			Authentication: "password-cleartext", Username: "%EMAILADDRESS%"}
	}
	// Programs take the first that they can use.
	incoming := []mailServer{server("imap", imapsPort, "SSL"), server("imap", imapPort, "STARTTLS")}
	if s.pop3 {
		incoming = append(incoming, server("pop3", pop3sPort, "SSL"), server("pop3", pop3Port, "STARTTLS"))
	}
	return marshal(clientConfig{Version: "1.1", Provider: emailProvider{
		ID: s.domain, Domain: s.domain, Name: s.domain, ShortName: s.domain,
		Incoming: incoming,
		Outgoing: []mailServer{server("smtp", submissionsPort, "SSL"), server("smtp", submissionPort, "STARTTLS")},
	}})
}
