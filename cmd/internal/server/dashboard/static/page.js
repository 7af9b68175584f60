// What the pages do beyond what they say: they keep themselves current, filter
// while somebody types, and draw charts. Without this file all can be read.
(() => {
  'use strict';
  const root = document.documentElement;
  root.classList.add('js');

  // The theme, kept in a cookie so that the next page is right from the start.
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const theme = document.getElementById('theme');
  if (theme) {
    theme.hidden = false;
    theme.addEventListener('click', () => {
      root.dataset.theme = dark() ? 'light' : 'dark';
      document.cookie = 'holdfast_theme=' + root.dataset.theme + '; Path=/; Max-Age=31536000; SameSite=Strict';
      redrawCharts();
    });
  }

  // Menus close as people expect.
  const menus = () => document.querySelectorAll('details.menu[open]');
  document.addEventListener('click', e => menus().forEach(m => { if (!m.contains(e.target)) m.open = false; }));
  document.addEventListener('keydown', e => {
    if (e.key === 'Escape') menus().forEach(m => { m.open = false; m.querySelector('summary').focus(); });
    if (e.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      const search = document.getElementById('filter-text');
      if (search) { search.focus(); e.preventDefault(); }
    }
  });

  // Ages grow between looks.
  const age = ms => {
    const s = Math.max(0, Math.floor(ms / 1000)), m = Math.floor(s / 60), h = Math.floor(m / 60);
    return s < 60 ? s + 's' : m < 60 ? m + 'm' : h < 48 ? h + 'h' + (m % 60) + 'm' : Math.floor(h / 24) + 'd';
  };
  const tick = () => document.querySelectorAll('time[data-age]').forEach(t => {
    const then = Date.parse(t.dateTime), now = Date.now() + skew, how = t.dataset.age;
    const text = how === 'in' ? (then > now ? 'in ' + age(then - now) : 'now') : age(now - then) + (how ? ' ' + how : '');
    if (t.textContent !== text) t.textContent = text;
  });
  let skew = 0;
  setInterval(() => { if (!document.hidden) tick(); }, 1000);

  // Looking again: the page is fetched and what changed in it is put in place, so
  // that focus, scrolling, and what is open or typed stay.
  const main = () => document.getElementById('main');
  let looking = false, again = false, timer = 0, last = 0, pause = 1000;
  const look = async (address, then) => {
    if (looking) { again = true; return; }
    looking = true;
    const began = performance.now();
    try {
      await htmx.ajax('GET', address || location.pathname + location.search, { target: '#main', select: '#main', swap: 'outerMorph' });
      if (then) then();
    } finally {
      looking = false;
      // A page that takes long to make is looked at the less often.
      pause = Math.max(1000, 8 * (performance.now() - began));
      tick();
      if (again) { again = false; later(); }
    }
  };
  const typing = () => {
    const e = document.activeElement;
    return e && main().contains(e) && e.closest('details.menu, form:not(.filters)') && /^(INPUT|SELECT|TEXTAREA)$/.test(e.tagName);
  };
  const later = () => {
    if (timer || !main() || !('live' in main().dataset)) return;
    // At most one look a second, the first at once.
    timer = setTimeout(() => {
      timer = 0;
      if (document.hidden || typing()) { missed = true; return; }
      last = Date.now();
      look();
    }, Math.max(80, pause - (Date.now() - last)));
  };
  let missed = false;
  const caughtUp = () => { if (missed && !document.hidden && !typing()) { missed = false; later(); } };
  document.addEventListener('focusout', () => setTimeout(caughtUp, 50));

  // Filters act as they are set; the address says what is filtered.
  let typed = 0;
  const filter = form => {
    const q = new URLSearchParams();
    for (const [k, v] of new FormData(form)) if (v) q.append(k, v);
    const address = form.getAttribute('action') + (q.size ? '?' + q : '');
    history.replaceState(null, '', address);
    look(address);
  };
  document.addEventListener('input', e => {
    if (!e.target.matches('[data-filter]')) return;
    clearTimeout(typed);
    typed = setTimeout(filter, e.target.tagName === 'SELECT' ? 0 : 200, e.target.form);
  });
  document.addEventListener('submit', e => {
    if (e.target.matches('form.filters')) { e.preventDefault(); filter(e.target); }
  });

  // Live: an event says that something changed, the page itself says what.
  const lamp = document.getElementById('live');
  const say = (on, text) => { lamp.hidden = false; lamp.className = 'live ' + (on ? 'on' : 'off'); if (lamp.textContent !== text) lamp.textContent = text; };
  let events = null, polling = 0;
  const poll = () => { if (!polling) polling = setInterval(() => { if (!document.hidden) later(); }, 5000); };
  const listen = () => {
    if (!main() || !('live' in main().dataset) || events) return;
    events = new EventSource('/api/v1/events');
    events.onopen = () => { clearInterval(polling); polling = 0; say(true, 'live'); later(); };
    events.onerror = () => {
      say(false, 'connecting');
      poll();
      if (events && events.readyState === EventSource.CLOSED) { events = null; say(false, 'every 5 s'); setTimeout(listen, 15000); }
    };
    events.onmessage = later;
    (document.body.dataset.events || '').split(' ').filter(Boolean).forEach(name => events.addEventListener(name, later));
  };
  const hush = () => { if (events) { events.close(); events = null; } };
  // A browser has few connections to one server: pages in the background give
  // theirs back.
  document.addEventListener('visibilitychange', () => { if (document.hidden) hush(); else { listen(); later(); } });
  addEventListener('pagehide', hush);
  if (!document.hidden) listen();

  // Charts. The numbers come from the daemon; each chart has a sentence beside it
  // that says the same in words.
  const drawn = [];
  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
  const sum = list => list.reduce((a, b) => a + (b || 0), 0);
  const took = s => s < 90 ? s.toFixed(1) + ' s' : s < 5400 ? Math.round(s / 60) + ' min' : Math.round(s / 3600) + ' h';
  const kinds = [
    { title: 'Drifts', of: d => [d.drifts, d.corrected], names: ['began', 'ended'], colours: ['--warn', '--good'], say: d => sum(d.drifts) + ' began, ' + sum(d.corrected) + ' ended' },
    { title: 'Time to correct', of: d => [d.resolve], names: ['seconds'], colours: ['--info'], points: true, say: d => { const l = d.resolve.filter(x => x !== null); if (!l.length) return 'nothing has ended'; const a = took(Math.min(...l)), b = took(Math.max(...l)); return a === b ? a : a + ' to ' + b + ', each the median of three hours'; } },
    { title: 'Runs', of: d => [d.runs, d.failed], names: ['ended well', 'failed'], colours: ['--good', '--bad'], say: d => sum(d.runs) + ' ended well, ' + sum(d.failed) + ' failed' },
  ];
  const bars = window.uPlot && uPlot.paths.bars({ size: [0.7, 14], align: -1 });
  const draw = (box, data) => {
    box.replaceChildren();
    drawn.length = 0;
    const holders = kinds.map(k => {
      const holder = document.createElement('figure');
      holder.className = 'chart';
      const caption = document.createElement('figcaption');
      caption.innerHTML = '<b></b> <span class="dim"></span>';
      caption.firstChild.textContent = k.title;
      caption.lastChild.textContent = k.say(data) + (data.cut ? ', of the newest 200,000' : '');
      holder.append(caption);
      box.append(holder);
      return holder;
    });
    kinds.forEach((k, at) => { // when all have their place, and so their width
      const holder = holders[at];
      const axis = { stroke: colour('--dim'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
      const chart = new uPlot({
        width: Math.max(220, holder.clientWidth), height: 150, cursor: { points: { show: false } }, legend: { show: true, live: false },
        axes: [axis, { ...axis, size: 44, values: (u, v) => v.map(x => Number.isInteger(x) ? x : k.points ? x.toFixed(1) : '') }],
        scales: { y: { range: (u, min, max) => [0, Math.max(max || 0, k.points ? 0.1 : 2) * 1.1] } },
        series: [{}, ...k.names.map((name, i) => ({
          label: name, stroke: colour(k.colours[i]), fill: k.points ? undefined : colour(k.colours[i]) + '55', width: k.points ? 0 : 1,
          paths: k.points ? () => null : bars, points: { show: !!k.points, size: 7, fill: colour(k.colours[i]) },
        }))],
      }, [data.times, ...k.of(data)], holder);
      drawn.push([chart, holder]);
    });
  };
  const loadCharts = async () => {
    const box = document.getElementById('charts');
    if (!box || !window.uPlot) return;
    try {
      const answer = await fetch(box.dataset.charts, { credentials: 'same-origin' });
      if (answer.ok) { box.data = await answer.json(); draw(box, box.data); }
    } catch { /* the page is left, or the daemon is gone, which the lamp says */ }
  };
  function redrawCharts() { const box = document.getElementById('charts'); if (box && box.data) draw(box, box.data); }
  let resized = 0;
  addEventListener('resize', () => { clearTimeout(resized); resized = setTimeout(() => drawn.forEach(([c, h]) => c.setSize({ width: Math.max(220, h.clientWidth), height: 150 })), 150); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawCharts);
  loadCharts();
  setInterval(() => { if (!document.hidden) loadCharts(); }, 60000);
})();
