package web

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Namespaces of the POX autodiscover protocol, [MS-OXDSCLI] 2.2.
const (
	nsAnswer  = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
	nsOutlook = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
)

type discovered struct {
	XMLName  xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
	Response any
}

type outlookResponse struct {
	XMLName xml.Name       `xml:"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a Response"`
	User    outlookUser    `xml:"User"`
	Account outlookAccount `xml:"Account"`
}

type outlookUser struct {
	DisplayName string
}

type outlookAccount struct {
	AccountType string
	Action      string
	Protocol    []outlookProtocol
}

// outlookProtocol is in the order of [MS-OXDSCLI] 2.2.4.1.1.2.6.
type outlookProtocol struct {
	Type           string
	Server         string
	Port           int
	LoginName      string
	DomainRequired string
	SPA            string
	SSL            string
	Encryption     string
	AuthRequired   string
}

type errorResponse struct {
	XMLName xml.Name `xml:"Response"`
	Error   struct {
		ErrorCode int
		Message   string
		DebugData string
	}
}

// autodiscover answers Outlook's question for the servers of an address. What
// is wrong with a question is said in the answer, with status 200, as the
// protocol wants it.
func (s servers) autodiscover(body io.Reader) ([]byte, int) {
	q, err := readQuestion(body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return discoverError(600, "Invalid Request"), http.StatusOK
	case q.schema != nsOutlook:
		return discoverError(601, "Provider is not available"), http.StatusOK
	case !s.owns(q.address):
		return discoverError(500, "The email address can't be found"), http.StatusOK
	}
	server := func(typ string, port int) outlookProtocol {
		return outlookProtocol{Type: typ, Server: s.hostname, Port: port, LoginName: q.address,
			DomainRequired: "off", SPA: "off", SSL: "on", Encryption: "SSL", AuthRequired: "on"}
	}
	protocols := []outlookProtocol{server("IMAP", imapsPort), server("SMTP", submissionsPort)}
	if s.pop3 {
		protocols = append(protocols, server("POP3", pop3sPort))
	}
	return marshal(discovered{Response: outlookResponse{
		User: outlookUser{DisplayName: q.address},
		Account: outlookAccount{AccountType: "email", Action: "settings",
			Protocol: protocols},
	}}), http.StatusOK
}

func discoverError(code int, message string) []byte {
	var r errorResponse
	r.Error.ErrorCode, r.Error.Message = code, message
	return marshal(discovered{Response: r})
}

// question is what an autodiscover request asks.
type question struct {
	address string
	schema  string // the kind of answer that the client understands
}

// Bounds on a question beyond the size of its body.
const (
	maxElements = 64
	maxNesting  = 8
)

var errQuestion = errors.New("not an autodiscover request")

// readQuestion takes the two elements that matter out of a request, wherever
// its namespaces and its order put them.
func readQuestion(r io.Reader) (q question, err error) {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, errQuestion
	}
	var path []string
	var text strings.Builder
	for elements := 0; ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return question{}, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements++
			path = append(path, strings.ToLower(token.Name.Local))
			if elements > maxElements || len(path) > maxNesting {
				return question{}, errQuestion
			}
			text.Reset()
		case xml.CharData:
			text.Write(token)
		case xml.EndElement:
			value := strings.TrimSpace(text.String())
			switch strings.Join(path, "/") {
			case "autodiscover/request/emailaddress":
				q.address = value
			case "autodiscover/request/acceptableresponseschema":
				q.schema = value
			}
			path = path[:len(path)-1]
			text.Reset()
		}
	}
	if q.address == "" || q.schema == "" {
		return question{}, errQuestion
	}
	return q, nil
}
