package render

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Parent and child speak in frames: a kind, a length and so many bytes. The
// parent begins with a job. The child asks for paths, one at a time, sends items
// and ends with done or failed.
const (
	frameJob    byte = 'j'
	frameStat   byte = 's'
	frameRead   byte = 'r'
	frameList   byte = 'l'
	frameItem   byte = 'i'
	frameDone   byte = 'd'
	frameFailed byte = 'f'

	frameAbsent  byte = '-'
	frameFile    byte = 'F'
	frameFolder  byte = 'D'
	frameContent byte = '+'
)

// maxFrame bounds one frame. It is above the bound of a file.
const maxFrame = 32 << 20

// maxFrameAsked bounds what a child asks with.
const maxFrameAsked = 8 << 10

var errFrame = errors.New("frame is too large")

// pipe is one end of the conversation.
type pipe struct {
	in  *bufio.Reader
	out *bufio.Writer
}

func newPipe(in io.Reader, out io.Writer) *pipe {
	return &pipe{bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(out, 64<<10)}
}

// queue writes a frame without sending it off.
func (p *pipe) queue(kind byte, payload []byte) error {
	if len(payload) > maxFrame {
		return errFrame
	}
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := p.out.Write(head[:]); err != nil {
		return err
	}
	_, err := p.out.Write(payload)
	return err
}

func (p *pipe) send(kind byte, payload []byte) error {
	if err := p.queue(kind, payload); err != nil {
		return err
	}
	return p.out.Flush()
}

func (p *pipe) receive() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	limit := uint32(maxFrame)
	switch head[0] {
	case frameStat, frameRead, frameList:
		limit = maxFrameAsked
	}
	if n > limit {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(p.in, payload); err != nil {
		return 0, nil, err
	}
	return head[0], payload, nil
}
