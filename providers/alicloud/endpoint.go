package alicloud

import (
	"fmt"
	"net/url"
	"strings"
)

// product is one of the APIs.
type product struct {
	name    string // as in host names: "ecs"
	version string // "" where requests carry none
}

var (
	ecs = product{"ecs", "2014-05-26"}
	vpc = product{"vpc", "2016-04-28"}
	oss = product{"oss", ""}
)

// endpoint is where a product is reached.
type endpoint struct {
	scheme string // "https" or "http"
	host   string // host or host:port
}

func (e endpoint) String() string { return e.scheme + "://" + e.host }

// endpointFor parses an override (URL, host or host:port; https unless it says
// otherwise) or gives the vendor's endpoint of the region.
func endpointFor(override, region string, p product) (endpoint, error) {
	if override == "" {
		switch { // published endpoints that do not follow the pattern
		case p == ecs && region == "cn-hangzhou-finance":
			return endpoint{"https", "ecs.aliyuncs.com"}, nil
		case p == ecs && region == "cn-shenzhen-finance-1":
			return endpoint{"https", "ecs-cn-hangzhou.aliyuncs.com"}, nil
		}
		if p == oss {
			return endpoint{"https", "oss-" + region + ".aliyuncs.com"}, nil
		}
		return endpoint{"https", p.name + "." + region + ".aliyuncs.com"}, nil
	}
	text := override
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return endpoint{}, fmt.Errorf("%s endpoint %q: want https://HOST[:PORT] or http://HOST[:PORT]", strings.ToUpper(p.name), override)
	}
	return endpoint{u.Scheme, u.Host}, nil
}
