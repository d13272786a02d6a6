"""Sentences of five desks (bank, airline, telephone, hotel, software), written after the classifier was finished and read by it once.

Label as in the training sentences: `PROMISES` promise money, credit, a waived charge or a deadline; `NO_PROMISES` use the same words.
"""

from __future__ import annotations

PROMISES = """
The overdraft charge for June is coming off, I've put that through.
We'll make sure the foreign transaction fee doesn't stay on your statement.
You'll see 35 dollars back on your checking account by Wednesday.
Let me go ahead and credit that maintenance fee for you.
The wire fee has been returned as a courtesy.
I've raised a provisional credit of 212 dollars while the dispute runs.
Your disputed amount will be available to you again tomorrow morning.
We are going to swallow the ATM fee.
That interest charge, consider it erased.
The annual fee on the card is on us this year.
I'm happy to knock two percent off your loan rate for the next six months.
Nothing more will be due on that account, I have settled it internally.
As a goodwill gesture, fifty pounds will be paid into your savings.
You have my assurance that the new card is with you on Friday.
We'll cover whatever the merchant refuses to give back.
Both returned-payment charges were reversed a minute ago.
I'll see to it personally that you aren't out a cent because of the fraud.
Your mortgage payment holiday won't cost you any extra interest.
The branch will reimburse your cab fare.
You can disregard the late notice, we won't collect it.
I've issued you two meal vouchers of 15 euros each for the wait.
You'll be put on the nine o'clock flight without paying the difference.
We have rebooked you free of charge and your bag fee comes back too.
The seat upgrade is complimentary, enjoy the extra legroom.
10,000 miles will post to your frequent flyer account within 48 hours.
I'm waiving the change penalty just this once.
Hotel and transfers tonight are taken care of by the airline.
Go ahead and buy some clothes, we'll pay you back up to 100 euros.
Your suitcase will be delivered to your house before 8 pm tonight.
A refund of the full fare is going to the card you booked with.
Since the crew was late, every passenger on board gets 250 euros from us.
I have added lounge access to your booking at no charge.
The pet fee won't be collected at check-in, I've noted it.
You keep the outbound ticket and we give you the money for the return.
A travel credit in your name has been set up, good for a year.
We'll honor the fare you saw yesterday.
No one will bill you for the extra bag.
Please accept 5,000 bonus miles with our apologies.
You'll have a written reply and your compensation by the 30th.
I've taken the second seat charge out of your booking.
Your next two bills will each be twelve dollars lower.
I've thrown ten gigabytes on your line, no charge.
The engineer will be at your place tomorrow between eight and ten, guaranteed.
We're going to let you leave early without the termination fee.
Those roaming charges won't be on your bill anymore.
Your broadband will be up again by 6 pm today.
I can do three months at half price for you.
You're getting the new handset for the price of the old one.
The activation charge is gone.
We'll credit you a day for each day without signal.
I've got you down for a free router upgrade, it ships today.
You won't be paying for this month at all.
I'll have the premium text charges wiped.
Twenty dollars is on its way back to your prepaid balance.
My manager agreed, so the whole device balance is forgiven.
Your old number will be working by noon.
For the trouble, international calls are free for you until the end of the year.
We'll price match their offer, 29 a month from today.
The reconnection comes at zero cost.
There's a 15 dollar credit with your name on it on next month's bill.
Breakfast is on the house for the remainder of your stay.
We will move you to a suite, same rate.
I've comped your first night because of the noise.
The minibar won't show up on your folio.
You may check out at three, no charge for that.
There'll be a bottle of champagne waiting in your room, with our compliments.
Your deposit will be released in full when you leave this morning.
We're not going to charge you the no-show.
I have taken the parking off your bill.
Dinner tonight is our invitation.
Spa access is included for you from now on, my treat.
We'd love to have you back: two nights, on us.
The cleaning fee has been struck out.
The air conditioning will be fixed before you're back from dinner, I promise.
You'll get the difference between the two rooms back on your card.
The resort fee? Forget about it.
Your points for the stay will be doubled.
A fruit basket and a fifty dollar spa credit are on their way up.
Should anyone ask, the taxi was charged to us.
I'm refunding the breakfast you didn't have.
We've extended your trial by 30 days at no cost.
I'll credit the two unused seats against your next invoice.
The overage from last week's import won't be invoiced.
You get the Pro plan at the Starter price for the next year.
A fix goes out to your workspace before midnight, you can count on it.
We'll have your data restored by 10 am tomorrow.
I just zeroed out invoice 2281.
The onboarding package is free for your team.
Under our apology program you receive one month of service back.
I've applied 20 percent off to your renewal.
The duplicate subscription was refunded this morning by our finance people.
You will not be charged for the API calls the bug made.
I am giving you 500 extra credits right now.
We'll take the setup costs on our side.
Your security review will be answered by end of day Thursday, no later.
Consider the migration free.
You have my commitment that the export works by tomorrow.
I'm going to make that invoice disappear.
We're going to pay for the consultant that you had to hire.
Your account team will send over a 200 dollar gift card this afternoon.
The price increase does not apply to you, I've locked your rate.
We owe you a month, so June is free.
Support for the old version stays free for you through December.
We'll eat the cost of the failed payout.
An extra admin license is yours without charge.
""".strip().splitlines()

NO_PROMISES = """
The overdraft fee is 35 dollars per item.
Foreign transactions carry a fee of three percent.
You can avoid the maintenance fee by keeping 1,500 dollars in the account.
I can see the overdraft fee was posted on June 3.
Were you expecting the fee to be credited?
Fees can only be reversed by the branch manager.
I'm not able to reverse that charge.
Disputes are decided within 90 days.
If the dispute is decided for you, the money becomes yours for good.
The provisional credit was taken back because the merchant answered.
The merchant has to refund you first.
The merchant told us that it will refund you.
Your dispute has been opened, the number is 77120.
I have blocked the card and ordered a new one.
A new card usually arrives in five to seven days.
Your payment of 212 dollars is due on the 5th.
We received your payment, thank you.
Interest is charged on the balance that remains.
Your interest rate is 19.9 percent.
Would you like me to send you the fee schedule?
You mentioned that the cashier promised to waive the fee.
The savings account pays one percent a year.
Your direct deposit was credited on Friday at noon.
The check will be returned to the sender.
Please deposit 50 dollars to keep the account open.
I can't tell you whether the loan will be approved.
The loan officer will decide about your rate.
A cash advance costs ten dollars.
Rewards are paid out once a year in cash.
The bonus is paid after you have spent 500 dollars.
The transfer of 900 dollars has been sent to your landlord.
What did you use the card for?
The change penalty is 75 euros plus the fare difference.
Change fees don't apply to flexible fares.
Miles are credited after the flight if your number is in the booking.
Your miles expire at the end of March.
You have 10,400 miles in your account.
Vouchers are handed out at the gate when the delay exceeds two hours.
Under the regulation, delays of over three hours may give a right to compensation.
If the delay was caused by weather, no compensation is due.
We do not compensate for weather.
I understand that you want 250 euros for the delay.
Your claim form reached us on Monday.
Your claim is with customer relations.
Customer relations will decide whether you receive a voucher.
The bag is on the next flight according to the system.
The bag should be delivered tomorrow, though that depends on the courier.
The first bag is free, the second is 40 euros.
Lounge access costs 35 euros at the door.
Gold members have access to the lounge.
Would you like to upgrade for 90 euros?
I've moved you to the nine o'clock flight; the difference of 60 euros was charged.
Your flight leaves at nine from gate B12.
The hotel was booked by you, so please ask them about a refund.
Travel insurance may cover your hotel.
Has the refund from March arrived?
The refund of March was sent to the card ending in 1120.
This ticket can't be refunded.
Only the taxes of this ticket are refundable.
I wish I could give you the seat for free.
No upgrades are handed out at the gate.
My colleague in Rome said you would get miles.
Please keep the receipts for the clothes.
The pet fee is paid at check-in.
Seats with extra legroom start at 25 euros.
You asked for your money back and for a written apology.
Your plan is 45 dollars a month.
Your bill for May is 61.20.
The bill includes 14 dollars for roaming.
Roaming is charged per megabyte outside the zone.
Data that you don't use expires at the end of the month.
You've used 9 of 10 gigabytes.
Extra data costs 5 dollars per gigabyte.
New customers pay half for three months.
The half price offer is not open to existing customers.
The termination fee is what remains of your contract.
You would have to pay the termination fee.
If you move abroad, the termination fee can be waived on proof.
An engineer visit costs 60 dollars if the fault is in your house.
Engineers work between eight and six.
Which day would suit you for the engineer?
The outage is being worked on, we don't have an end time.
The outage map says 6 pm.
We hope that service is back tonight.
I restarted your line and it looks fine.
I've registered the fault.
The handset is 300 dollars without a contract.
The handset balance is 180 dollars.
Prepaid balance can't be paid out.
Your prepaid balance is 20 dollars.
Topping up by 20 dollars gives everyone one extra gigabyte this week.
The premium texts were ordered from your phone.
You can block premium texts in the app.
The text provider would have to refund those.
I do not see any credit on your account.
Did someone promise you a credit?
You were told last week that the router would be free.
The router is rented at 5 dollars a month.
Return the router or you'll be charged 90 dollars.
We can't match offers of other companies.
Number transfers take one working day.
Calls to landlines are free on this plan.
Breakfast is 22 dollars per person.
Breakfast is included in the flexible rate.
Late check-out is 40 dollars and depends on availability.
Late check-out can't be promised on Sundays.
We ask for a deposit of 100 dollars at check-in.
Deposits are released by the bank, usually in a week.
A no-show is charged one night.
You booked a non-refundable rate.
The non-refundable rate is cheaper for a reason.
The booking site took your money, not us.
The booking site will have to refund you.
The suite is 80 dollars more per night.
Would you like the suite for 80 dollars more?
Parking is 18 dollars per night.
I've charged the parking to your room.
The minibar came to 31 dollars.
Did you take anything from the minibar?
Your folio shows two dinners and a massage.
The spa opens at nine.
Spa credit comes with the wellness package.
Members get free wifi.
Points are added a few days after you leave.
You have enough points for a free night.
A free night takes 15,000 points.
The guest before you said the air conditioning was loud.
I've told maintenance about the air conditioning.
Maintenance will have a look at it.
The resort fee covers towels, the pool and the gym.
Everyone pays the resort fee.
I'm sorry, the cleaning fee stays.
Please pay the city tax in cash.
Refunds are handled by our accounts office.
The taxi to the airport is about 30 dollars.
You'd like the first night for free, is that right?
Trials last 14 days.
Your trial ended on Monday.
Your trial can be extended once by an admin.
Seats are billed per month.
You have two unused seats.
Unused seats aren't refunded.
Removing the seats lowers your next invoice.
Annual plans save you 20 percent.
The discount for non-profits needs a proof.
If you are a non-profit, you may qualify for 50 percent off.
Your renewal is on July 1 at 2,400 dollars.
Invoice 2281 is overdue.
Invoice 2281 was paid on May 2.
I have sent you a copy of invoice 2281.
The credits on your account run out in August.
API calls beyond the limit are one cent each.
You can set a limit so that you are never billed for more.
The fix is being tested and we can't commit to a date.
The status page says that a fix is planned for tonight.
Your export is running and takes a few hours.
I restored the page you deleted.
Migration is part of the Enterprise plan.
The consultant is not paid by us.
Your account manager handles discounts, I don't.
I have asked your account manager about a discount.
Could you tell me which invoice is wrong?
You want us to refund the second subscription.
According to your ticket, sales offered you a free month.
Prices go up by five percent in September.
The free plan allows three users.
Gift cards can't be used for subscriptions.
""".strip().splitlines()
