package gitserver

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// Proxy is a proxy on the loopback, for HTTP (plain requests and tunnels) or
// SOCKS version 5 (RFC 1928).
type Proxy struct {
	// URL is where it listens, http:// or socks5://.
	URL string

	listener net.Listener
	running  sync.WaitGroup
	socks    bool

	mu             sync.Mutex
	user, password string
	targets        []string
	conns          map[net.Conn]bool
	closed         bool
}

// StartProxy serves until the test ends; socks chooses the protocol.
func StartProxy(t TB, socks bool) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	p := &Proxy{URL: "http://" + l.Addr().String(), listener: l, socks: socks, conns: map[net.Conn]bool{}}
	if socks {
		p.URL = "socks5://" + l.Addr().String()
	}
	p.running.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// RequireAuth makes the proxy ask for these credentials.
func (p *Proxy) RequireAuth(user, password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user, p.password = user, password
}

// Targets are the addresses that clients were connected to.
func (p *Proxy) Targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.targets...)
}

// Cut ends all connections; new ones are served.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Close stops serving, cuts what is under way and waits for its end.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.listener.Close()
	p.running.Wait()
}

// keep remembers a connection, to be cut by Close.
func (p *Proxy) keep(c net.Conn) (forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
	}
	p.conns[c] = true
	return func() {
		c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() {
			defer p.keep(conn)()
			read := bufio.NewReader(conn)
			if p.socks {
				p.serveSocks(conn, read)
			} else {
				p.serveHTTP(conn, read)
			}
		})
	}
}

func (p *Proxy) serveHTTP(conn net.Conn, read *bufio.Reader) {
	for {
		req, err := http.ReadRequest(read)
		if err != nil {
			return
		}
		p.mu.Lock()
		want := ""
		if p.password != "" {
			want = "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password))
		}
		p.mu.Unlock()
		if want != "" && req.Header.Get("Proxy-Authorization") != want {
			fmt.Fprint(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if req.Method == http.MethodConnect {
			p.tunnel(conn, read, req.Host, func(ok bool) {
				if ok {
					fmt.Fprint(conn, "HTTP/1.1 200 Connected\r\n\r\n")
				} else {
					fmt.Fprint(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
				}
			})
			return
		}
		if !p.forward(conn, req) {
			return
		}
	}
}

func (p *Proxy) forward(conn net.Conn, req *http.Request) bool {
	p.note(req.URL.Host)
	req.RequestURI = ""
	req.Header.Del("Proxy-Authorization")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		fmt.Fprint(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return false
	}
	defer resp.Body.Close()
	return resp.Write(conn) == nil
}

func (p *Proxy) note(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = append(p.targets, target)
}

// tunnel connects, answers and copies both ways until one side ends.
func (p *Proxy) tunnel(conn net.Conn, read io.Reader, target string, answer func(bool)) {
	p.note(target)
	far, err := net.Dial("tcp", target)
	answer(err == nil)
	if err != nil {
		return
	}
	defer p.keep(far)()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(conn, far)
		conn.Close()
	})
	_, _ = io.Copy(far, read)
	far.Close()
	back.Wait()
}

func (p *Proxy) serveSocks(conn net.Conn, read *bufio.Reader) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(read, head); err != nil || head[0] != 5 {
		return
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(read, methods); err != nil || !p.greet(conn, read, methods) {
		return
	}
	request := make([]byte, 4)
	if _, err := io.ReadFull(read, request); err != nil || request[1] != 1 {
		return
	}
	var host string
	switch request[3] {
	case 1, 4:
		ip := make([]byte, map[byte]int{1: 4, 4: 16}[request[3]])
		if _, err := io.ReadFull(read, ip); err != nil {
			return
		}
		host = net.IP(ip).String()
	case 3:
		host = readShort(read)
	}
	port := make([]byte, 2)
	if _, err := io.ReadFull(read, port); err != nil {
		return
	}
	target := net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port))))
	p.tunnel(conn, read, target, func(ok bool) {
		code := byte(0)
		if !ok {
			code = 5
		}
		_, _ = conn.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
	})
}

// greet agrees on who the client is: nobody, or by password (RFC 1929).
func (p *Proxy) greet(conn net.Conn, read *bufio.Reader, methods []byte) bool {
	p.mu.Lock()
	user, password := p.user, p.password
	p.mu.Unlock()
	if password == "" {
		_, err := conn.Write([]byte{5, 0})
		return err == nil
	}
	if !slices.Contains(methods, 2) {
		_, _ = conn.Write([]byte{5, 0xff})
		return false
	}
	if _, err := conn.Write([]byte{5, 2}); err != nil {
		return false
	}
	if version, err := read.ReadByte(); err != nil || version != 1 {
		return false
	}
	if readShort(read) != user || readShort(read) != password {
		_, _ = conn.Write([]byte{1, 1})
		return false
	}
	_, err := conn.Write([]byte{1, 0})
	return err == nil
}

// readShort reads a text behind the byte that is its length.
func readShort(read *bufio.Reader) string {
	n, err := read.ReadByte()
	if err != nil {
		return ""
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(read, text); err != nil {
		return ""
	}
	return string(text)
}
