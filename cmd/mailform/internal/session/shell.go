package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailform/plan"
	"mailform/providers/host"
)

// Shell gives the person a session on a host; "" is the only one of the spec.
func (s *Session) Shell(ctx context.Context, name string, sh host.Shell) (status int, err error) {
	agent, known, err := s.agentOf(ctx, name)
	if err != nil {
		return 0, err
	}
	return s.hosts.Shell(ctx, agent, known, sh)
}

// Route tells how to get to a host with other programs.
func (s *Session) Route(ctx context.Context, name string) (host.Route, error) {
	agent, known, err := s.agentOf(ctx, name)
	if err != nil {
		return host.Route{}, err
	}
	r, ok, err := s.hosts.Route(ctx, agent, known)
	if err == nil && !ok {
		err = &plan.Error{Code: "MF5401", Step: "connect to host " + agent.Address.Segments()[1], Got: "its address is not known yet", Fix: "Apply the whole stack: the machine and its address come first."}
	}
	return r, err
}

func (s *Session) agentOf(ctx context.Context, name string) (plan.Resource, func(plan.Ref) (plan.Value, bool), error) {
	if name == "" {
		if len(s.Spec.Hosts) != 1 {
			var names []string
			for _, h := range s.Spec.Hosts {
				names = append(names, h.Name)
			}
			return plan.Resource{}, nil, fmt.Errorf("the spec has several hosts; name one: %s", strings.Join(names, ", "))
		}
		name = s.Spec.Hosts[0].Name
	}
	if err := s.checkHost(name); err != nil {
		return plan.Resource{}, nil, err
	}
	agents, known, err := s.agents(ctx, nil)
	if err != nil {
		return plan.Resource{}, nil, err
	}
	agent, ok := agents[name]
	if !ok {
		return plan.Resource{}, nil, errors.New("host " + name + " has no agent")
	}
	return agent, known, nil
}
