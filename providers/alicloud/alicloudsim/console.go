package alicloudsim

import (
	"encoding/json"
	"net/url"
)

// Console carries a call out for another user of the account, who sits in front of
// the vendor's console: nothing is signed, nothing is recorded, and no fault strikes.
// The answer is the API's.
func (s *Sim) Console(product, action string, params map[string]string) (json.RawMessage, error) {
	s.serial.Lock()
	defer s.serial.Unlock()
	r := &request{Sim: s, product: product, action: action, params: url.Values{}}
	for name, value := range params {
		r.params.Set(name, value)
	}
	body, err := s.execute(r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(body)
}
