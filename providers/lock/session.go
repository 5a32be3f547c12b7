package lock

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"mailform/plan"
)

// The server's error codes, appendix A of its manual.
const (
	uniqueViolation  = "23505"
	insufficientRole = "42501"
	duplicateTable   = "42P07"
	undefinedTable   = "42P01"
	badDatabase      = "3D000"
)

// session is a connection that holds the lock. A goroutine of its own reads from
// it while nobody asks anything, so that its end is noticed.
type session struct {
	conn *pgconn.PgConn
	asks chan func()
	gone chan struct{} // closed when the connection has ended
	end  context.CancelFunc
}

func watched(conn *pgconn.PgConn) *session {
	ctx, end := context.WithCancel(context.Background())
	s := &session{conn: conn, asks: make(chan func()), gone: make(chan struct{}), end: end}
	go s.watch(ctx)
	return s
}

func (s *session) watch(ctx context.Context) {
	defer close(s.gone)
	defer hangUp(s.conn)
	for !s.conn.IsClosed() {
		reading, stop := context.WithCancel(ctx)
		end := make(chan error, 1)
		go func() { end <- s.conn.WaitForNotification(reading) }()
		select {
		case err := <-end:
			stop()
			if err != nil {
				return // closed from either side
			}
		case ask := <-s.asks:
			stop()
			<-end // cut short, the connection is whole
			ask()
		}
	}
}

// do lends the connection to f.
func (s *session) do(ctx context.Context, f func(*pgconn.PgConn) error) error {
	done := make(chan error, 1)
	select {
	case s.asks <- func() {
		err := f(s.conn)
		if s.conn.IsClosed() {
			err = plan.ErrLeaseLost
		}
		done <- err
	}:
	case <-s.gone:
		return plan.ErrLeaseLost
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done
}

// close ends the connection.
func (s *session) close() {
	s.end()
	<-s.gone
}

// hangUp closes a connection without waiting for the other side.
func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}

// query runs one statement and returns its rows as text; NULL is "".
func query(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	res := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, res.Err
	}
	rows := make([][]string, len(res.Rows))
	for i, r := range res.Rows {
		for _, v := range r {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

// open connects. The server is told to look after us, so that the lock of a
// machine that is cut off is free within half a minute.
func (p *postgresLock) open(ctx context.Context) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, p.connect)
	if err != nil {
		return nil, p.failure("connect to", err)
	}
	_, err = query(ctx, conn, `select set_config('tcp_keepalives_idle', '15', false), set_config('tcp_keepalives_interval', '5', false),
		set_config('tcp_keepalives_count', '3', false), set_config('statement_timeout', '10000', false)`)
	if err != nil {
		hangUp(conn)
		return nil, p.failure("connect to", err)
	}
	return conn, nil
}

func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// failure says in a plan.Error what went wrong.
func (p *postgresLock) failure(verb string, err error) error {
	var known *plan.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &plan.Error{
		Class: plan.ErrTransient, Code: "MF5506", Step: verb + " the lock on " + p.Name(), Got: told(err), Err: err,
		Fix: "can the server be reached, and is its certificate valid for " + p.connect.Host + "? Nothing was changed; run the same command again",
	}
	switch code := codeOf(err); {
	case strings.HasPrefix(code, "28"): // invalid authorization
		e.Class, e.Code, e.Fix = plan.ErrCredentials, "MF5507", "check the user and password: in the URL, PGPASSWORD or ~/.pgpass"
	case code == insufficientRole:
		e.Class, e.Code = plan.ErrCredentials, "MF5507"
		e.Fix = "the user needs a schema it may create the table mailform_lock in, and to break a lock the rights of its holder's user (pg_signal_backend)"
	case code == badDatabase:
		e.Class, e.Fix = plan.ErrFatal, "make the database, or name another in the URL"
	}
	return e
}

// told is the cause without the library's account of what it connected to.
func told(err error) string {
	var pg *pgconn.PgError
	var op *net.OpError
	switch {
	case errors.As(err, &pg):
		return pg.Message + " (" + pg.Code + ")"
	case errors.As(err, &op):
		return op.Error()
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) && connect.Unwrap() != nil {
		return connect.Unwrap().Error()
	}
	return err.Error()
}
