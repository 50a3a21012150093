// English.
// With a space that no line breaks at.
const conversations = (n) => `${n}\u00a0${n === 1 ? 'conversation' : 'conversations'}`;

export default {
  close: 'Close',
  cancel: 'Cancel',
  yes: 'Yes',
  no: 'No',
  later: 'Later',
  loading: 'Loading…',
  again: 'Try again',
  problems: {
    away: 'The server does not answer. Check the connection and try again.',
    status: (status) => `The server could not do that (error ${status}). Try again in a while.`,
    internal: 'Something on this page went wrong. Load it anew and try again.',
  },
  data: {
    title: 'My data',
    off: 'This server keeps no conversations. What is said here is gone as soon as the page is closed or loaded anew.',
    saved: (name) => `Saved as ${name}.`,
    one: {
      title: 'This conversation',
      markdown: 'Save as Markdown',
      json: 'Save as JSON',
      timing: 'Timing as a chart',
      file: 'conversation',
    },
    all: {
      title: 'All conversations',
      none: 'No conversation is kept here yet.',
      count: (n) => `${conversations(n)} ${n === 1 ? 'is' : 'are'} kept here.`,
      explain: 'What is saved as JSON or zip can be brought in again, here or on another server.',
      save: 'Save all as zip',
      bring: 'Bring an export in…',
      file: 'conversations.zip',
      sending: (percent) => `Sending: ${percent} %`,
      reading: 'Sent. The server is reading it…',
      brought: (n, known) =>
        `${conversations(n)} brought in${known ? `, ${known} ${known === 1 ? 'was' : 'were'} here already` : ''}.`,
      nothing: (known) => `Nothing new in it: ${conversations(known)} ${known === 1 ? 'was' : 'were'} here already.`,
      empty: 'There is no conversation in it.',
      show: 'Show them',
    },
    remove: {
      open: 'Delete all my data…',
      title: 'Delete all my data?',
      what: (n) =>
        `${conversations(n)}, your ratings of replies, your settings and your links to other devices are deleted.`,
      everywhere: 'They are gone in your other browsers too.',
      final: 'This cannot be undone. Whatever you want to keep, save it first.',
      save: 'Save all as zip',
      go: 'Delete everything',
    },
  },
  devices: {
    title: 'Other devices',
    explain: 'A link opens these conversations in another browser: on your phone, or on your other computer.',
    make: 'Make a link',
    link: 'Your link',
    copy: 'Copy',
    copied: 'Copied.',
    notCopied: 'The browser does not allow it. The link is selected: copy it by hand.',
    warn: (until) =>
      `It works until ${until}. Whoever has it sees all your conversations and writes in your name, ` +
      'so send it to nobody but yourself. It is shown only now.',
    links: 'Links that work',
    made: (time) => `Made ${time}`,
    until: (time) => `works until ${time}`,
    revoke: 'Revoke',
    revokeOf: (time) => `Revoke the link made ${time}`,
    browsers: 'Browsers that opened one',
    unnamed: 'A browser',
    since: (time) => `since ${time}`,
    self: 'this browser',
    remove: 'Remove',
    removeOf: (name, time) => `Remove ${name}, here since ${time}`,
    removeEnds: 'If you remove a browser, all links end too, so that it cannot come back by one.',
    joined: 'This browser shows the conversations of another one. Links are made and browsers removed there.',
    leave: {
      open: 'Leave…',
      title: 'Leave these conversations?',
      text: 'This browser then shows its own conversations again. To come back, open a link again.',
      go: 'Leave',
    },
  },
  join: {
    title: 'Open the history of your other device in this browser?',
    text:
      'The conversations of the device that made the link are shown here then, and what you write here is seen there. ' +
      'Open only links that you made yourself.',
  },
  adopt: {
    joined: (n) => `This browser has ${conversations(n)} of its own. Take ${n === 1 ? 'it' : 'them'} along?`,
    account: (n) =>
      `This browser has ${conversations(n)} from before you signed in. ` +
      `Take ${n === 1 ? 'it' : 'them'} into your account?`,
    textJoined: 'Then they stand with those of your other device. Otherwise they show again when you leave.',
    textAccount: 'Then you find them wherever you sign in. If you say no, they stay out of your account.',
    take: (n) => (n === 1 ? 'Take it' : 'Take them'),
  },
  account: {
    dashboard: 'Dashboard',
    title: 'Account',
    name: (name) => `Signed in as ${name}.`,
    logoutAll: {
      open: 'Log out everywhere…',
      title: 'Log out everywhere?',
      text: 'You are signed out in every browser and program, in this one too. Your conversations stay.',
      go: 'Log out everywhere',
    },
    password: {
      open: 'Change password…',
      title: 'Change password',
      old: 'Current password',
      new: 'New password',
      go: 'Change password',
      done: 'The password is changed. Everywhere else you are signed out.',
    },
    show: 'Show',
    hide: 'Hide',
    showOf: (label) => `Show: ${label}`,
    rule: (least) => `At least ${least} characters. Several unrelated words are easy to remember and hard to guess.`,
  },
  signUp: {
    open: 'Create an account',
    title: 'Create an account',
    name: 'Name',
    nameRule: 'You sign in with it. Letters and digits; dots, hyphens, underscores, + and @ may stand between them.',
    password: 'Password',
    go: 'Create the account',
  },
};
