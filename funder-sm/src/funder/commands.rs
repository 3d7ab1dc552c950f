//! Commands of apps, each with exactly one reply.

use offset_protocol::app::{Command, Outcome};
use offset_protocol::bytes::{CommandId, PublicKey};

use super::Funder;
use super::buyer::PayOrder;
use super::config::{LinkWish, outcome};
use super::io::{FunderOutput, RouteQuery};

impl Funder {
    /// A command that the app's permissions allow.
    pub(super) fn on_command(&mut self, app: PublicKey, id: CommandId, command: Command) {
        if let Some(outcome) = self.carry_out((app, id), command) {
            self.hold(FunderOutput::Reply { app, id, outcome });
        }
    }

    /// `None`: the reply comes later.
    fn carry_out(&mut self, asked: (PublicKey, CommandId), command: Command) -> Option<Outcome> {
        Some(match command {
            Command::AddRelay { relay, name } => self.add_relay(relay, name),
            Command::RemoveRelay { name } => self.remove_relay(&name),
            Command::AddIndex { server, name } => self.add_index(server, name),
            Command::RemoveIndex { name } => self.remove_index(&name),
            Command::AddFriend { public_key, relays, name } => outcome(self.add_friend(public_key, relays, name)),
            Command::RemoveFriend { name } => outcome(self.remove_friend(&name)),
            Command::RenameFriend { name, new_name } => outcome(self.rename_friend(&name, new_name)),
            Command::SetFriendRelays { name, relays } => outcome(self.set_friend_relays(&name, relays)),
            Command::EnableFriend { name } => outcome(self.set_enabled(&name, LinkWish::Keep)),
            Command::DisableFriend { name } => outcome(self.set_enabled(&name, LinkWish::Stop)),
            Command::OpenCurrency { name, currency } => outcome(self.open_currency(&name, currency)),
            Command::CloseCurrency { name, currency } => outcome(self.close_currency(&name, currency)),
            Command::RemoveCurrency { name, currency } => outcome(self.remove_currency(&name, currency)),
            Command::SetMaxDebt { name, currency, max_debt } => outcome(self.set_max_debt(&name, currency, max_debt)),
            Command::SetRate { name, currency, rate } => outcome(self.set_rate(&name, currency, rate)),
            Command::ResetFriend { name, terms } => outcome(self.reset_friend(&name, &terms)),
            Command::LastEvidence { name } => self.last_evidence(&name),
            Command::FindRoutes { .. } => return self.on_find_routes(asked, command),
            Command::Pay { payment_id, invoice, max_fee, mode, routes } => {
                self.pay(asked, PayOrder { payment_id, invoice, max_fee, mode, routes })
            }
            Command::ReleaseCommit { payment_id } => self.release_commit(&payment_id),
            Command::WithdrawPayment { payment_id } => self.withdraw_payment(&payment_id),
            Command::PaymentStatus { payment_id } => self.payment_status(&payment_id),
            Command::ForgetPayment { payment_id } => self.forget_payment(&payment_id),
            Command::ListPayments { after } => self.list_payments(after),
            Command::AddInvoice { invoice_id, currency, amount, description, expires_at } => {
                let invoice = self.new_invoice(invoice_id, currency, amount, description);
                self.add_invoice(asked, invoice, expires_at)
            }
            Command::CancelInvoice { invoice_id } => self.cancel_invoice(&invoice_id),
            Command::CommitInvoice { commit } => self.commit_invoice(&commit),
            Command::InvoiceStatus { invoice_id } => self.invoice_status(&invoice_id),
            Command::ForgetInvoice { invoice_id } => self.forget_invoice(&invoice_id),
            Command::ListInvoices { after } => self.list_invoices(after),
        })
    }

    fn on_find_routes(&mut self, asked: (PublicKey, CommandId), command: Command) -> Option<Outcome> {
        let Command::FindRoutes { currency, amount, source, destination, exclude, max_fee } = command else {
            return None;
        };
        let source = source.unwrap_or(self.us);
        self.find_routes(asked, RouteQuery { currency, amount, source, destination, exclude, max_fee })
    }
}
